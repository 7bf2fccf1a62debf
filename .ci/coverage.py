"""Reads what `llvm-cov export` wrote, for .ci/coverage.sh.

A region is a piece of source that runs as a whole: an arm, a branch, what follows a `?`. Three kinds are told apart of those that no
test ran: the error path of a `?`, which is the operator itself and decides nothing; those with a comment `unreached: why` on their first
line or the line above; and the rest, which fail the check. Tests within a file are left out.
"""

import collections
import json
import pathlib
import sys


def main(report, *folders):
    root = pathlib.Path(__file__).resolve().parent.parent
    counts = collections.defaultdict(collections.Counter)
    for function in json.loads(pathlib.Path(report).read_text())["data"][0]["functions"]:
        for line, column, end_line, end_column, count, file, _, kind in function["regions"]:
            path = pathlib.Path(function["filenames"][file])
            # 0 is code; the others are gaps and what a macro expands to
            if kind == 0 and any(path.is_relative_to(root / folder) for folder in folders):
                # a function is there once for each crate that it was compiled in, and for each type
                counts[path][line, column, end_line, end_column] += count
    failed = False
    print(f"{'file':28} {'lines':>12} {'regions':>14} {'of them `?`':>12}")
    for path in sorted(counts):
        source = path.read_text().splitlines()
        tests = next((i for i, text in enumerate(source, 1) if text == "#[cfg(test)]"), len(source) + 1)
        regions = {at: count for at, count in counts[path].items() if at[0] < tests}
        missed = sorted(at for at, count in regions.items() if count == 0)
        tries = [at for at in missed if at[0] == at[2] and source[at[0] - 1][at[1] - 1 : at[3] - 1] == "?"]
        rest = [at for at in missed if at not in tries]
        lines = {line for at in regions for line in range(at[0], at[2] + 1)}
        # the smallest region that a line begins in says whether it ran
        ran = set()
        for line in lines:
            inside = [at for at in regions if at[0] <= line <= at[2]]
            ran |= {line} if any(regions[at] for at in inside if at[0] == line) else set()
            smallest = min(inside, key=lambda at: (at[2] - at[0], at[3] - at[1]))
            ran |= {line} if regions[smallest] else set()
        share = lambda part, all: f"{len(part)}/{len(all)}"
        covered = [at for at, count in regions.items() if count]
        name = str(path.relative_to(root))
        print(f"{name:28} {share(ran, lines):>12} {share(covered, regions):>14} {len(tries):>12}")
        for at in rest:
            around = source[max(at[0] - 2, 0) : at[0]]
            why = next((text.split("unreached: ", 1)[1] for text in around if "unreached: " in text), None)
            failed |= why is None
            print(f"    {at[0]}:{at[1]} {source[at[0] - 1].strip()[:90]}    {'unreached: ' + why if why else 'NOT REACHED'}")
    return 1 if failed else 0


sys.exit(main(*sys.argv[1:]))
