#!/usr/bin/env python3
"""Times other engines and this library on networks that are graphs, in turns, and prints the ratios.

    python3 -m venv peers
    peers/bin/pip install numpy onnx onnxruntime openvino ai-edge-litert litert-torch
    cargo build --release -p sepconv-bench -p sepconv-example-graphs --bin network --example graphs
    peers/bin/python benches/peers/graphs.py --check                 # our outputs are those of the peers
    peers/bin/python benches/peers/graphs.py --threads 2 --rounds 5  # times; nothing else may run meanwhile

The networks are MobileNetV3 large (v3l) and small (v3s), ResNet-18 (resnet18), and MobileNetV2 with a feature pyramid (pyramid). They are
those of `network --net v3l|v3s` and of the example `graphs`, described here once more, with seeded weights and f32 throughout. Batch norms
are folded. ONNX Runtime and OpenVINO get ONNX files, in NCHW. LiteRT gets .tflite files, in NHWC, which litert-torch makes of a module of
PyTorch; that takes a minute or two for each network, once. litert-torch brings PyTorch, of several gigabytes. Without it, the peers are the
other two. Files are kept in the virtual environment.

In each round, each engine runs each network for about a second, in a process of its own, so that a slow spell of the machine meets all
engines and no pool of threads outlives its turn. The figure of an engine is the median over rounds of the medians. A ratio is the time
of the fastest peer over ours.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
NETS = ["v3l", "v3s", "resnet18", "pyramid"]
# of the largest value of an output; engines add in other orders
TOLERANCE = 1e-4


class Net:
    """A network as a list of operations. A value is the number of the operation that makes it."""

    def __init__(self):
        self.operations, self.outputs, self.weights = [("input",)], [], {}
        self.rng = np.random.default_rng(0)

    def push(self, *operation):
        self.operations.append(operation)
        return len(self.operations) - 1

    def conv(self, x, name, cin, cout, kernel=1, stride=1, act=None, depthwise=False, dense=False):
        shape = (cout, 1 if depthwise else cin, kernel, kernel)
        # as wide as keeps the spread of values from layer to layer: a rectifier cuts off half of the variance
        gain = 3 if act in (None, "hardsigmoid") else 6
        bound = (gain / np.prod(shape[1:])) ** 0.5
        self.weights[f"{name}.weight"] = self.rng.uniform(-bound, bound, shape).astype(np.float32)
        self.weights[f"{name}.bias"] = self.rng.uniform(-0.1, 0.1, cout).astype(np.float32)
        return self.push("dense" if dense else "conv", x, name, kernel, stride, cin if depthwise else 1, act)


def round8(channels):
    """The nearest multiple of 8, but at most a tenth less."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


# window, expanded channels, output channels, squeeze-and-excite, activation, stride
RELU, HARD_SWISH = "relu", "hardswish"
V3 = {
    "v3l": (
        [
            (3, 16, 16, False, RELU, 1),
            (3, 64, 24, False, RELU, 2),
            (3, 72, 24, False, RELU, 1),
            (5, 72, 40, True, RELU, 2),
            (5, 120, 40, True, RELU, 1),
            (5, 120, 40, True, RELU, 1),
            (3, 240, 80, False, HARD_SWISH, 2),
            (3, 200, 80, False, HARD_SWISH, 1),
            (3, 184, 80, False, HARD_SWISH, 1),
            (3, 184, 80, False, HARD_SWISH, 1),
            (3, 480, 112, True, HARD_SWISH, 1),
            (3, 672, 112, True, HARD_SWISH, 1),
            (5, 672, 160, True, HARD_SWISH, 2),
            (5, 960, 160, True, HARD_SWISH, 1),
            (5, 960, 160, True, HARD_SWISH, 1),
        ],
        960,
        1280,
    ),
    "v3s": (
        [
            (3, 16, 16, True, RELU, 2),
            (3, 72, 24, False, RELU, 2),
            (3, 88, 24, False, RELU, 1),
            (5, 96, 40, True, HARD_SWISH, 2),
            (5, 240, 40, True, HARD_SWISH, 1),
            (5, 240, 40, True, HARD_SWISH, 1),
            (5, 120, 48, True, HARD_SWISH, 1),
            (5, 144, 48, True, HARD_SWISH, 1),
            (5, 288, 96, True, HARD_SWISH, 2),
            (5, 576, 96, True, HARD_SWISH, 1),
            (5, 576, 96, True, HARD_SWISH, 1),
        ],
        576,
        1024,
    ),
}


def mobilenet_v3(name):
    blocks, last, hidden = V3[name]
    net = Net()
    x, cin = net.conv(0, "stem", 3, 16, 3, 2, act=HARD_SWISH), 16
    for i, (kernel, wide, cout, excite, act, stride) in enumerate(blocks):
        y = net.conv(x, f"block{i}.expand", cin, wide, act=act) if wide != cin else x
        y = net.conv(y, f"block{i}.depthwise", wide, wide, kernel, stride, act, depthwise=True)
        if excite:
            inside = round8(wide // 4)
            scale = net.push("mean", y)
            scale = net.conv(scale, f"block{i}.excite.reduce", wide, inside, act=RELU)
            scale = net.conv(scale, f"block{i}.excite.expand", inside, wide, act="hardsigmoid")
            y = net.push("scale", y, scale)
        y = net.conv(y, f"block{i}.project", wide, cout)
        x = net.push("add", y, x, None) if stride == 1 and cin == cout else y
        cin = cout
    x = net.push("mean", net.conv(x, "last", cin, last, act=HARD_SWISH))
    x = net.conv(x, "hidden", last, hidden, act=HARD_SWISH, dense=True)
    net.outputs = [net.conv(x, "head", hidden, 1000, dense=True)]
    return net


def resnet18(_):
    net = Net()
    x, cin = net.push("maximum", net.conv(0, "conv1", 3, 64, 7, 2, act=RELU)), 64
    for stage in range(4):
        for block in range(2):
            name, cout, stride = f"layer{stage + 1}.{block}", 64 << stage, 2 if stage and not block else 1
            y = net.conv(x, f"{name}.conv1", cin, cout, 3, stride, act=RELU)
            y = net.conv(y, f"{name}.conv2", cout, cout, 3)
            if stride == 2:
                x = net.conv(x, f"{name}.downsample", cin, cout, 1, 2)
            x, cin = net.push("add", y, x, RELU), cout
    net.outputs = [net.conv(net.push("mean", x), "fc", cin, 1000, dense=True)]
    return net


# expansion, output channels, blocks, stride of the first block
V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def pyramid(_, channels=64):
    net = Net()
    x, cin, block, taps = net.conv(0, "stem", 3, 32, 3, 2, act="relu6"), 32, 0, []
    for stage, (expansion, cout, blocks, first) in enumerate(V2):
        for stride in [first] + [1] * (blocks - 1):
            name, wide = f"block{block}", expansion * cin
            y = net.conv(x, f"{name}.expand", cin, wide, act="relu6") if expansion > 1 else x
            y = net.conv(y, f"{name}.depthwise", wide, wide, 3, stride, "relu6", depthwise=True)
            y = net.conv(y, f"{name}.project", wide, cout)
            x = net.push("add", y, x, None) if stride == 1 and cin == cout else y
            cin, block = cout, block + 1
        if stage in (1, 2, 4, 6):
            taps.append((x, cin))
    above = None
    for level, (tap, cin) in reversed(list(enumerate(taps))):
        x = net.conv(tap, f"lateral{level}", cin, channels, act=RELU)
        above = net.push("add", x, net.push("twice", above), None) if above else x
        net.outputs.insert(0, net.conv(above, f"output{level}", channels, channels, 3))
    return net


BUILD = {"v3l": mobilenet_v3, "v3s": mobilenet_v3, "resnet18": resnet18, "pyramid": pyramid}


def onnx_model(net, size):
    """The network as ONNX, with an input of NCHW."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], [numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice")]
    for bound in (0, 6):
        constants.append(numpy_helper.from_array(np.float32(bound), f"{bound}"))

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def activated(made, act, output):
        """Adds nodes that make `output`: `made` with a name to write to, then the activation."""
        made(f"{output}.sum" if act else output)
        if act == "relu6":
            node("Clip", [f"{output}.sum", "0", "6"], output)
        elif act:
            kind = {"relu": "Relu", "hardswish": "HardSwish", "hardsigmoid": "HardSigmoid"}[act]
            node(kind, [f"{output}.sum"], output, **({"alpha": 1 / 6, "beta": 0.5} if act == "hardsigmoid" else {}))

    for number, (kind, *operands) in enumerate(net.operations):
        out = f"x{number}"
        if kind in ("conv", "dense"):
            x, name, kernel, stride, groups, act = operands
            weight = net.weights[f"{name}.weight"]
            weight = weight.reshape(weight.shape[:2]) if kind == "dense" else weight
            constants.append(numpy_helper.from_array(weight, f"{name}.weight"))
            constants.append(numpy_helper.from_array(net.weights[f"{name}.bias"], f"{name}.bias"))
            inputs = [f"x{x}", f"{name}.weight", f"{name}.bias"]
            if kind == "conv":
                shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
                activated(lambda to: node("Conv", inputs, to, **shape), act, out)
            else:
                # a dense layer behind another has two axes already
                if net.operations[x][0] != "dense":
                    node("Flatten", [f"x{x}"], f"{out}.flat")
                    inputs[0] = f"{out}.flat"
                activated(lambda to: node("Gemm", inputs, to, transB=1), act, out)
        elif kind == "add":
            x, y, act = operands
            activated(lambda to: node("Add", [f"x{x}", f"x{y}"], to), act, out)
        elif kind == "scale":
            node("Mul", [f"x{operand}" for operand in operands], out)
        elif kind == "mean":
            node("GlobalAveragePool", [f"x{operands[0]}"], out)
        elif kind == "maximum":
            node("MaxPool", [f"x{operands[0]}"], out, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        elif kind == "twice":
            modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node("Resize", [f"x{operands[0]}", "", "twice"], out, **modes)

    def info(value, shape):
        return helper.make_tensor_value_info(f"x{value}", TensorProto.FLOAT, shape)

    # of ranks alone: inference finds the shapes
    outputs = [info(output, [None] * (2 if net.operations[output][0] == "dense" else 4)) for output in net.outputs]
    read = {name for made in nodes for name in made.input}
    constants = [constant for constant in constants if constant.name in read]
    graph = helper.make_graph(nodes, "graph", [info(0, [1, 3, size, size])], outputs, constants)
    # old enough for every reader; hard-swish is of version 14
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    return model


def tflite_model(net, size, path):
    """Writes the network as LiteRT reads it, with an input of NHWC."""
    import litert_torch
    import torch
    from torch.nn import functional

    activations = {
        None: lambda x: x,
        "relu": functional.relu,
        "relu6": functional.relu6,
        "hardswish": functional.hardswish,
        "hardsigmoid": functional.hardsigmoid,
    }

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, tensor in net.weights.items():
                self.register_buffer(name.replace(".", "_"), torch.from_numpy(tensor))

        def weighted(self, kind, x, name, kernel, stride, groups, act):
            weight, bias = (getattr(self, f"{name}.{part}".replace(".", "_")) for part in ("weight", "bias"))
            if kind == "dense":
                return activations[act](functional.linear(x.flatten(1), weight.flatten(1), bias))
            return activations[act](functional.conv2d(x, weight, bias, stride, kernel // 2, 1, groups))

        def forward(self, image):
            made = [image]
            for kind, *operands in net.operations[1:]:
                x = made[operands[0]]
                if kind in ("conv", "dense"):
                    made.append(self.weighted(kind, x, *operands[1:]))
                elif kind == "add":
                    made.append(activations[operands[2]](x + made[operands[1]]))
                elif kind == "scale":
                    made.append(x * made[operands[1]])
                elif kind == "mean":
                    made.append(x.mean([2, 3], keepdim=True))
                elif kind == "maximum":
                    # no value is below zero there, and padding by zeros is delegated to LiteRT's kernels
                    made.append(functional.max_pool2d(functional.pad(x, [1] * 4), 3, 2))
                elif kind == "twice":
                    made.append(functional.interpolate(x, scale_factor=2, mode="nearest"))
            return tuple(made[output] for output in net.outputs)

    planes = [i for i, output in enumerate(net.outputs) if net.operations[output][0] != "dense"]
    module = litert_torch.to_channel_last_io(Module().eval(), args=[0], outputs=planes)
    litert_torch.convert(module, (torch.from_numpy(image(size)),)).export(str(path))


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.astype("<f4").tobytes())


def image(size):
    """The image that our programs run on, in NHWC."""
    values = np.arange(size * size * 3) % 255
    return (values.astype(np.float32) / np.float32(127.5) - np.float32(1)).reshape(1, size, size, 3)


def nchw(tensor):
    return np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))


def timed(run, seconds):
    for _ in range(5):
        run()
    times, start = [], time.perf_counter()
    while len(times) < 10 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return {"median_ms": statistics.median(times), "best_ms": min(times)}


def nhwc(outputs):
    return [output.transpose(0, 2, 3, 1) if output.ndim == 4 else output for output in outputs]


# Of each peer, from a file and the threads: what runs the network once, and what returns its outputs, in NHWC.


def ort(folder, size, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = {"x0": nchw(image(size))}
    return lambda: session.run(None, inputs), lambda: nhwc(session.run(None, inputs))


def openvino(folder, size, threads):
    import openvino

    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", config)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(nchw(image(size))))
    return request.infer, lambda: nhwc([request.get_output_tensor(i).data for i in range(len(compiled.outputs))])


def litert(folder, size, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image(size))
    indices = [output["index"] for output in interpreter.get_output_details()]
    return interpreter.invoke, lambda: [interpreter.get_tensor(index) for index in indices]


PEERS = {
    "ort": (ort, ["onnx", "onnxruntime"]),
    "openvino": (openvino, ["onnx", "openvino"]),
    "litert": (litert, ["ai_edge_litert", "litert_torch"]),
}


def turn(peer, folder, size, threads, seconds, output=None):
    """What a process of one engine does: it times runs, or writes the outputs of one."""
    run, outputs = PEERS[peer][0](Path(folder), int(size), int(threads))
    if output is None:
        print(json.dumps(timed(run, float(seconds))))
        return
    run()
    np.savez(output, *outputs())
    print("{}")


def write_model(name, size, path, suffix):
    net = BUILD[name](name)
    if suffix == ".tflite":
        tflite_model(net, int(size), path)
    else:
        Path(path).write_bytes(onnx_model(net, int(size)).SerializeToString())
    print("{}")


def make(name, size, peer):
    """The folder with the files of a network for a peer. Those of another version of this file are not taken."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    folder = Path(sys.prefix) / "graphs" / digest / f"{name}-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("model.tflite" if peer == "litert" else "model.onnx")
    if not path.exists():
        # a file that is cut off is not taken either
        part = path.with_suffix(".part")
        last_line([sys.executable, __file__, "--make", name, size, part, path.suffix])
        part.rename(path)
    return folder


def last_line(command):
    """The JSON object that a program prints last."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def peers(args, name, peer, *more):
    command = [sys.executable, __file__, "--turn", peer, make(name, args.size, peer), args.size, args.threads, args.seconds]
    return last_line([*command, *more])


def ours(args, name, *more):
    program = ["network", "--net", name, "--json"] if name in V3 else [Path("examples") / "graphs", name]
    size = ["--size", args.size, "--threads", args.threads]
    return last_line([args.ours / program[0], *program[1:], *size, "--seconds", args.seconds, *more])


def check(args, folder):
    """Our outputs beside those of the peers, on the same weights."""
    wrong = False
    for name in args.nets:
        write_safetensors(folder / "weights", BUILD[name](name).weights)
        ours(args, name, "--weights", folder / "weights", "--output", folder / "output")
        got = np.fromfile(folder / "output", "<f4")
        for peer in args.peers:
            peers(args, name, peer, folder / "outputs.npz")
            expected = list(np.load(folder / "outputs.npz").values())
            if got.size != sum(output.size for output in expected):
                sys.exit(f"{name}: {got.size} values, but {peer} has {[output.shape for output in expected]}")
            parts = np.split(got, np.cumsum([output.size for output in expected])[:-1])
            pairs = [(part, output.ravel()) for part, output in zip(parts, expected)]
            differences = [float(np.abs(part - output).max() / np.abs(output).max()) for part, output in pairs]
            # NaN is no less
            right = all(difference < TOLERANCE for difference in differences)
            wrong |= not right
            shown = ", ".join(f"{difference:.1e}" for difference in differences)
            shown = f"{name:9} {peer:9} largest difference over the largest value: {shown}"
            print(shown if right else f"{shown}: TOO LARGE", flush=True)
    sys.exit(wrong)


def compare(args):
    table = []
    for name in args.nets:
        turns = {peer: lambda peer=peer: peers(args, name, peer) for peer in args.peers}
        turns["ours"] = lambda: ours(args, name)
        for peer in args.peers:
            make(name, args.size, peer)
        medians = {engine: [] for engine in turns}
        for _ in range(args.rounds):
            for engine, take in turns.items():
                medians[engine].append(take()["median_ms"])
        figures = {engine: statistics.median(times) for engine, times in medians.items()}
        peer = min(args.peers, key=figures.get)
        ratio = figures[peer] / figures["ours"]
        shown = "  ".join(f"{engine} {figure:.3f}" for engine, figure in sorted(figures.items(), key=lambda item: item[1]))
        print(f"{name:9} threads {args.threads}: {shown} ms; {peer} takes {ratio:.2f} times as long as ours", flush=True)
        table.append({"net": name, "size": args.size, "threads": args.threads, "median_ms": figures, "best_peer": peer, "ratio": ratio})
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


def main():
    # arguments of the processes that this program starts
    if sys.argv[1:2] == ["--turn"]:
        return turn(*sys.argv[2:])
    if sys.argv[1:2] == ["--make"]:
        return write_model(*sys.argv[2:])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

    def names(known):
        def split(text):
            chosen = text.split(",")
            if unknown := set(chosen) - set(known):
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {','.join(sorted(unknown))}")
            return chosen

        return split

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=names(NETS), default=NETS)
    installed = [peer for peer, (_, packages) in PEERS.items() if all(map(importlib.util.find_spec, packages))]
    parser.add_argument("--peers", type=names(PEERS), default=installed, help="those that are installed, if not given")
    parser.add_argument("--size", type=int, default=224, help="rows and columns of the image, a multiple of 32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--ours", type=Path, default=target / "release", help="the folder of our programs")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--check", action="store_true", help="compare outputs, and time nothing")
    args = parser.parse_args()
    if not args.peers:
        parser.error("no peer is installed")
    if not args.check:
        return compare(args)
    with tempfile.TemporaryDirectory() as folder:
        check(args, Path(folder))


if __name__ == "__main__":
    main()
