#!/usr/bin/env python3
"""Predicts, without an ARM machine, how near the NEON kernels come to the multiply-add peak of two cores.

Builds the assembly of `sepconv-kernels` for aarch64, finds every loop that multiplies, takes the path through it that a
full tile takes, and asks llvm-mca how many cycles that takes on each core, against a run of independent multiply-adds on
the same model. What comes out is a prediction: of a model of the core, with all data in L1.

    source <(.ci/aarch64.sh env)     # a rustc that has std for aarch64; any other that has will do
    python3 benches/neon-mca.py              # the table of docs/neon.md
    python3 benches/neon-mca.py --check      # the same, and fails where sums leave registers or a goal is missed
    python3 benches/neon-mca.py --spills     # only looks for sums that leave registers; needs no llvm-mca

Python 3 and its standard library, cargo, and for the predictions llvm-mca (Debian: llvm-19).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "aarch64-unknown-linux-gnu"
CORES = ["cortex-a76", "neoverse-n1"]
ITERATIONS = 300

# the instantiations of `Level::enter` for NEON, by what rustc's v0 mangling makes of the types of the kernel and of its tiles
KERNELS = {
    "f32_pointwise": [
        r"4neon\w*4Here\w*5enterNtNt\w*9pointwise9Pointwise",
        r"4neon\w*4Here\w*5enterINtNt\w*9pointwise4tile4Tile",
    ],
    "f32_dwconv3x3s1": [r"4neon\w*4Here\w*5enterINtNt\w*9depthwise9DwConv3x3Kj1_"],
    "f32_dwconv3x3s2": [r"4neon\w*4Here\w*5enterINtNt\w*9depthwise9DwConv3x3Kj2_"],
    "f32_dwconv3x3s3": [r"4neon\w*4Here\w*5enterINtNt\w*9depthwise9DwConv3x3Kj3_"],
    "f32_dwconv": [r"4neon\w*4Here\w*5enterNtNt\w*9depthwise6DwConvE"],
}
# the share of the peak that the tile of most of the work is to reach, epilogue apart
GOALS = {
    ("f32_pointwise", "6 pixels × 4 vectors"): 0.90,
    ("f32_dwconv3x3s1", "12 pixels"): 0.80,
    ("f32_dwconv3x3s2", "12 pixels"): 0.70,
}

MULTIPLIES = ("fmla", "fmls")
# what a tile does once for each vector of sums when they are complete: clamp, and store
EPILOGUE = re.compile(r"(fcmgt|fcmge|bit|bif|bsl|fmin|fmax)\b|st[rpu]\w*\s+q")
CONDITIONAL = ("cbz", "cbnz", "tbz", "tbnz")
ENDS = ("ret", "brk", "udf")


def op(instruction):
    return instruction.split(None, 1)[0]


def is_multiply(instruction):
    return instruction.startswith(MULTIPLIES)


def is_vector_store_to_stack(instruction):
    return bool(re.match(r"st[rpu]\w*\s+[qv]", instruction)) and "[sp" in instruction


class Function:
    """The control flow of one function of an assembly file."""

    def __init__(self, lines, tables):
        self.code = {}  # block → its instructions
        order, name, fresh = [], "entry", 0
        self.code[name] = []
        for line in lines:
            line = line.split("//")[0].rstrip()
            label = re.match(r"(\.LBB\w+):", line)
            text = line.strip()
            if label:
                order.append(name)
                name = label[1]
                self.code[name] = []
            elif text and not text.startswith(".") and not text.endswith(":"):
                text = re.sub(r"\s+", " ", text)
                self.code[name].append(text)
                if op(text) in ("b", "br", *ENDS, *CONDITIONAL) or text.startswith("b."):
                    order.append(name)
                    fresh += 1
                    name = f"after {fresh}"
                    self.code[name] = []
        order.append(name)
        self.next = {}
        for block, following in zip(order, order[1:] + [None]):
            self.next[block] = self._successors(block, following, tables)
        self._find_loops()

    def _successors(self, block, following, tables):
        code = self.code[block]
        last = op(code[-1]) if code else ""
        if last in ENDS:
            return []
        if last == "br":
            targets = [t for i in code for table in re.findall(r"\.LJTI\w+", i) for t in tables[table]]
            if not targets:
                raise SystemExit(f"a jump without a table that this script knows: {code[-6:]}")
            return list(dict.fromkeys(targets))
        targets = re.findall(r"\.LBB\w+", code[-1]) if last in ("b", *CONDITIONAL) or last.startswith("b.") else []
        if last != "b" and following:
            targets.append(following)
        return targets

    def _find_loops(self):
        """Natural loops: `self.loops` is header → blocks, `self.innermost` block → header of the smallest loop it is in."""
        post, seen, stack = [], {"entry"}, [("entry", iter(self.next["entry"]))]
        while stack:
            block, rest = stack[-1]
            for successor in rest:
                if successor not in seen:
                    seen.add(successor)
                    stack.append((successor, iter(self.next[successor])))
                    break
            else:
                post.append(block)
                stack.pop()
        order = post[::-1]
        self.number = {block: i for i, block in enumerate(order)}
        before = defaultdict(list)
        for block in order:
            for successor in self.next[block]:
                before[successor].append(block)

        dominator = {"entry": "entry"}

        def common(a, b):
            while a != b:
                while self.number[a] > self.number[b]:
                    a = dominator[a]
                while self.number[b] > self.number[a]:
                    b = dominator[b]
            return a

        changed = True
        while changed:
            changed = False
            for block in order[1:]:
                known = [p for p in before[block] if p in dominator]
                found = known[0]
                for p in known[1:]:
                    found = common(found, p)
                if dominator.get(block) != found:
                    dominator[block], changed = found, True

        def dominates(a, b):
            while self.number[b] > self.number[a]:
                b = dominator[b]
            return a == b

        self.loops = {}
        for block in order:
            for header in self.next[block]:
                if dominates(header, block):
                    body, work = self.loops.setdefault(header, {header}), [block]
                    while work:
                        b = work.pop()
                        if b not in body:
                            body.add(b)
                            work += before[b]
        self.innermost = {}
        for header, body in sorted(self.loops.items(), key=lambda item: -len(item[1])):
            for block in body:
                self.innermost[block] = header
        self.order = order

    def paths(self):
        """For each loop that multiplies outside of smaller loops: its header, and the instructions of one turn that multiplies
        the most with the fewest other instructions, or None where every turn goes through a smaller loop."""
        for header in sorted(self.loops, key=self.number.get):
            own = [b for b in self.order if self.innermost.get(b) == header]
            weight = {b: (sum(map(is_multiply, self.code[b])), -len(self.code[b])) for b in own}
            if not any(multiplies for multiplies, _ in weight.values()):
                continue
            best, turn = {header: (*weight[header], [header])}, None
            for block in own:
                if block not in best:
                    continue
                multiplies, shortness, path = best[block]
                for successor in self.next[block]:
                    if successor == header:
                        if turn is None or (multiplies, shortness) > turn[:2]:
                            turn = (multiplies, shortness, path)
                    elif successor in weight and self.number[successor] > self.number[block]:
                        m, s = weight[successor]
                        candidate = (multiplies + m, shortness + s, path + [successor])
                        if successor not in best or candidate[:2] > best[successor][:2]:
                            best[successor] = candidate
            yield header, [i for block in turn[2] for i in self.code[block]] if turn else None

    def spills(self):
        """Stores of vectors to the stack in blocks that multiply. (The stores of a few lanes go over the stack, but after the
        last multiply-add.)"""
        found = []
        for block, code in self.code.items():
            multiplies = [i for i, instruction in enumerate(code) if is_multiply(instruction)]
            if multiplies:
                found += [i for i in code[: multiplies[-1]] if is_vector_store_to_stack(i)]
        return found


def functions(path):
    """The NEON kernels of an assembly file: pairs of a name and a [`Function`]."""
    tables, table, found = defaultdict(list), None, []
    missing = {(name, pattern) for name, patterns in KERNELS.items() for pattern in patterns}
    wanted = sorted(missing)
    symbol, lines = None, []
    text = path.read_text().splitlines()
    for line in text:
        label = re.match(r"(\.LJTI\w+):", line)
        entry = re.match(r"\s+\.(?:byte|hword|word|short|long)\s+\(?(\.LBB\w+)-", line)
        if label:
            table = label[1]
        elif entry and table:
            tables[table].append(entry[1])
        elif line and not line[0].isspace():
            table = None
    for line in text:
        label = re.match(r"(_R\w+):", line)
        if label:
            symbol, lines = label[1], []
        elif line.startswith(".Lfunc_end"):
            for name, pattern in wanted:
                if symbol and re.search(pattern, symbol):
                    found.append((name, Function(lines, tables)))
                    missing.discard((name, pattern))
            symbol = None
        elif symbol:
            lines.append(line)
    if missing:
        raise SystemExit(f"no NEON instance of {', '.join(map(' by '.join, sorted(missing)))} in {path}")
    return found


def vector_loads(code):
    """Vectors of four that the code reads, but not those it reads from the stack."""
    return sum(2 if op(i) == "ldp" else 1 for i in code if re.match(r"ld[rpu]\w*\s+q", i) and "[sp" not in i)


def describe(kernel, code):
    """The tile that a turn of a loop is, and whether it is taken once a row and not for most of the work."""
    multiplies = [i for i in code if is_multiply(i)]
    sums = len({re.split(r"[ ,]+", i)[1] for i in multiplies})
    if kernel == "f32_pointwise":
        steps = max(1, len(multiplies) // sums)
        vectors = vector_loads(code) // steps
        return f"{sums // vectors} pixel{'s' if sums > vectors else ''} × {vectors} vectors"
    if kernel == "f32_dwconv":
        return f"{sums} pixel{'s' if sums > 1 else ''}, a tap"
    pixels = len(multiplies) // 9
    # the last pixel of a row, with more around its vectors than in them
    if len(code) > 5 * len(multiplies):
        return f"1 pixel × {pixels} vector{'s' if pixels > 1 else ''}"
    # pixels of a caller lie at no distance that is known here, so that each has an address of its own; else rows have
    bases = {found[1] for i in code if (found := re.match(r"ld[rpu]\w*\s+q.*\[(x\d+)", i))}
    return f"{pixels} pixel{'s' if pixels > 1 else ''}{'' if len(bases) < 8 else ', in place'}"


class Mca:
    def __init__(self, program):
        self.program = program
        self.peak = {core: self._peak(core) for core in CORES}

    def cycles(self, core, code):
        """Cycles that a turn takes when turns follow each other."""
        done = subprocess.run(
            [self.program, f"-mtriple={TARGET}", f"-mcpu={core}", f"-iterations={ITERATIONS}", "-"],
            input="\n".join(code), text=True, capture_output=True,
        )
        total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        if done.returncode or not total:
            raise SystemExit(f"{self.program}: {done.stderr}")
        return int(total[1]) / ITERATIONS

    def _peak(self, core):
        """Cycles that a multiply-add of four lanes takes when nothing else runs."""
        independent = [f"fmla v{i}.4s, v30.4s, v31.4s" for i in range(30)]
        return self.cycles(core, independent) / len(independent)

    def share(self, core, code):
        return sum(map(is_multiply, code)) * self.peak[core] / self.cycles(core, code)


def build(directory):
    out = directory / "kernels.s"
    subprocess.run(
        ["cargo", "rustc", "--release", "--quiet", "-p", "sepconv-kernels", "--lib", "--no-default-features",
         "--target", TARGET, "--", f"--emit=asm={out}", "-C", "codegen-units=1", "-C", "symbol-mangling-version=v0",
         "-C", "debuginfo=0"],
        cwd=ROOT, check=True,
    )
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where sums leave registers or a goal is missed")
    parser.add_argument("--spills", action="store_true", help="only look for sums that leave registers")
    parser.add_argument("--asm", type=Path, help="take this assembly file in place of building one")
    parser.add_argument("--print", metavar="LOOP", help="print the instructions of the loop of this label, and stop")
    parser.add_argument("--mca", default=os.environ.get("LLVM_MCA") or shutil.which("llvm-mca-19") or "llvm-mca")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        kernels = functions(options.asm or build(Path(directory)))

    failures, rows = [], defaultdict(list)
    for kernel, function in kernels:
        for instruction in function.spills():
            failures.append(f"{kernel}: a sum is stored between multiply-adds: {instruction}")
        for header, code in function.paths():
            if code is None:
                failures.append(f"{kernel}: a tile around {header} is not unrolled")
            elif options.print == header:
                print("\n".join(code))
                return
            else:
                stored = [i for i in code if is_vector_store_to_stack(i)]
                rows[kernel, describe(kernel, code)].append((header, code, stored))

    if not options.spills:
        mca = Mca(options.mca)
        version = subprocess.run([options.mca, "--version"], text=True, capture_output=True).stdout
        print("model:", " ".join(re.findall(r"LLVM version \S+", version)) or options.mca)
        print()
        print("| kernel | tile | instructions | multiply-adds | vectors to the stack |", end="")
        print("".join(f" {core} | {core}, with clamp and stores |" for core in CORES))
        print("|---|---|--:|--:|--:|" + "--:|--:|" * len(CORES))
        order = list(KERNELS)
        for (kernel, tile), instances in sorted(rows.items(), key=lambda r: (order.index(r[0][0]), -len(r[1][0][1]))):
            # instances of one tile differ by where panels and pixels are looped over: the slowest stands for them
            line = None
            for _, code, stored in instances:
                inner = [i for i in code if not EPILOGUE.match(i)]
                shares = [(mca.share(core, inner), mca.share(core, code)) for core in CORES]
                if line is None or shares < line[0]:
                    line = shares, code, stored
            shares, code, stored = line
            goal = GOALS.get((kernel, tile))
            if goal and min(inner for inner, _ in shares) < goal:
                failures.append(f"{kernel}, {tile}: {min(shares)[0]:.3f} of the peak, the goal is {goal}")
            cells = [f"`{kernel}`", tile, len(code), sum(map(is_multiply, code)), len(stored)]
            for inner, whole in shares:
                cells += [f"{inner:.2f}", f"{whole:.2f}" if any(map(EPILOGUE.match, code)) else ""]
            print("| " + " | ".join(map(str, cells)) + " |")
        for kernel, tile in GOALS.keys() - rows.keys():
            failures.append(f"{kernel}: no loop of {tile}")

    for failure in failures:
        print("failed:", failure, file=sys.stderr)
    if options.check or options.spills:
        sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
