"""Mutation testing: whether the tests notice when a line of the program is made wrong. `make mutants` runs it.

Three steps, each in a copy of the project below a folder of its own, so that nothing here is ever changed:

    python tests/mutation map FOLDER              which tests run which blocks of code: the whole suite, once
    python tests/mutation run FOLDER [MODULE]...  make mutants of modules, and run the tests of the block that each is in
    python tests/mutation report FOLDER           the score of every module, and the mutants that nobody noticed
"""

import argparse
import collections
import os
from pathlib import Path

from covering import make_map, modules
from making import mutants_of
from running import results, run, work


def report(folder: Path) -> None:
    """The score of every module, and the mutants that live."""
    wanted = {mutant.key for module in modules(folder / "base" / "main") for mutant in mutants_of(module, folder)}
    rows = {row["key"]: row for row in results(folder) if row["key"] in wanted}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in sorted(rows.values(), key=lambda row: (row["module"], row["line"])):
        counts[row["module"]][row["status"]] += 1
        if row["status"] != "killed":
            print(f"{row['module']}:{row['line']}: {row['status']} {row['kind']}: {row['text']}  [{row['noticed']}]")
    counts["all"] = sum(counts.values(), collections.Counter())
    for module, count in counts.items():
        print(f"{module:40} {count['killed']:5} of {count.total():5} noticed, {count['killed'] / count.total():.0%}; "
              f"{count['survived']} lived, {count['uncovered']} run by no test")  # fmt: skip
    print(f"{len(rows)} of {len(wanted)} mutants tried")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("map", "run", "work", "report"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--most", type=int, metavar="N", help="try N of them, taken at random and the same each time")
    asked = parser.parse_intermixed_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if asked.step == "map":
        make_map(folder)
    elif asked.step == "run":
        run(folder, asked.names, asked.jobs, asked.most)
    elif asked.step == "work":
        work(folder, asked.names[1:], asked.names[0], asked.most)
    else:
        report(folder)


if __name__ == "__main__":
    main()
