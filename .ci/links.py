"""Links of Markdown files and of rustdoc's pages that lead nowhere. What is on the web is not asked for.

    links.py [--package] FILE-OR-FOLDER...

Of a folder, every .md and .html file is read. With --package, plots may be missing: packages are without.
"""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

PLOTS = "docs/cost/"


class Page(HTMLParser):
    """The links and the anchors of a page of rustdoc's."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        link = attributes.get({"a": "href", "img": "src"}.get(tag))
        self.links += [link] if link else []


@cache
def read(path):
    """Links and anchors of a file."""
    if path.suffix == ".html":
        page = Page(path)
        return page.links, page.anchors
    if path.suffix != ".md":
        return [], set()
    unfenced = re.sub(r"^(```+).*?^\1`*$", "", path.read_text(), flags=re.M | re.S)
    text = re.sub(r"(`+).+?\1", "code", unfenced, flags=re.S)
    defined = dict(re.findall(r"^\[([^\]]+)\]:\s*(\S+)", text, flags=re.M))
    used = re.findall(r"\]\[([^\]]+)\]", text)
    links = re.findall(r"\]\(<?([^)>\s]+)", text) + list(defined.values())
    links += [f"[{name}], which is not defined" for name in used if name not in defined]
    # headings become anchors as on the hubs that show Markdown
    headings = re.findall(r"^#+ (.*)", unfenced, flags=re.M)
    return links, {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fault(file, link, package):
    """What is wrong with a link, or nothing."""
    if re.match(r"[a-z][a-z+.-]*:|//", link):
        return None
    name, _, anchor = link.partition("#")
    target = (file.parent / unquote(name.partition("?")[0])) if name else file
    if package and PLOTS in target.as_posix():
        return None
    # rustdoc leads to the crate's own page of an item that the crate exports
    if "doc/sepconv/" in file.as_posix() and "/sepconv_kernels/" in target.as_posix() and "/src/" not in target.as_posix():
        return "is of another crate: what public items name is to be exported"
    if not target.exists():
        return "is not there"
    if target.is_dir():
        return "is a folder" if file.suffix == ".html" else None
    # lines of source are made when a page of it is shown
    if anchor and "/src/" not in target.as_posix() and not {anchor, unquote(anchor)} & read(target.resolve())[1]:
        return "has no such heading"
    return None


def main(arguments):
    package = "--package" in arguments
    paths = [Path(argument) for argument in arguments if argument != "--package"]
    files = []
    for path in paths:
        files += sorted([*path.rglob("*.md"), *path.rglob("*.html")]) if path.is_dir() else [path]
    links = [(file, link) for file in files for link in sorted(set(read(file.resolve())[0]))]
    faults = [f"{file}: {link} {why}" for file, link in links if (why := fault(file, link, package))]
    print(*faults, f"{len(links)} links in {len(files)} files, {len(faults)} of them lead nowhere", sep="\n")
    sys.exit(1 if faults or not links else 0)


main(sys.argv[1:])
