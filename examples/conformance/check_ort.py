"""Runs models of ONNX for the conformance kit: a server on pipes, which `main.rs` starts.

Needs `pip install onnxruntime`. Numbers are little-endian. Each request is three parts, each with its length in bytes as a
u32 before it: a model, or nothing for the last one once more; four u32, the shape of its only input; and the input's f32.
Each answer is a byte, 0 for a result and 1 for an error, a length as a u32, and the f32 of all outputs, one after the other, or a text. The
first answer comes unasked: the version of ONNX Runtime. The only argument is a level of optimisation: disable_all, basic,
extended or all.
"""

import os
import struct
import sys


def main():
    requests = sys.stdin.buffer
    # what ONNX Runtime prints must not get among the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(status, payload):
        answers.write(struct.pack("<BI", status, len(payload)))
        answers.write(payload)
        answers.flush()

    def part():
        length = requests.read(4)
        return requests.read(struct.unpack("<I", length)[0]) if length else None

    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        answer(1, str(error).encode())
        return
    answer(0, onnxruntime.__version__.encode())

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    level = sys.argv[1] if len(sys.argv) > 1 else "all"
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(
        levels, "ORT_DISABLE_ALL" if level == "disable_all" else f"ORT_ENABLE_{level.upper()}"
    )
    session = None
    while (model := part()) is not None:
        shape = struct.unpack("<4I", part())
        values = numpy.frombuffer(part(), dtype="<f4").reshape(shape)
        try:
            if model:
                session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            outputs = session.run(None, {"x0": values})
            answer(0, b"".join(numpy.ascontiguousarray(output, dtype="<f4").tobytes() for output in outputs))
        except Exception as error:  # whatever it is, the caller is told, and the next case comes
            answer(1, str(error).encode())


if __name__ == "__main__":
    main()
