"""The reference pages, made from the code and the manual pages while mkdocs builds the site; nothing of them is a file here.

mkdocs calls `on_files` and `on_page_markdown` (`hooks` in mkdocs.yml). Needs mandoc, which reads the manual pages.
"""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from snapmirror.cli import command_line
from snapmirror.sync.api import openapi

ROOT = Path(__file__).resolve().parent.parent
MANUALS = ("snapmirror.1", "snapmirror.toml.5", "snapmirror-store.7")
#: `--help` is as wide
COLUMNS = 96


def on_page_markdown(markdown: str, **_: object) -> str:
    """Blocks in which a command and what it prints are mixed get no button that would copy both."""
    return re.sub(r"^```console$", "``` { .console .no-copy }", markdown, flags=re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the OpenAPI document."""
    made = {f"reference/{name}.md": manual(ROOT / "man" / name) for name in MANUALS}
    made["reference/commands.md"] = commands()
    made["reference/api.md"] = api(openapi())
    made["reference/openapi.json"] = json.dumps(openapi(), indent=1)
    made["reference/changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


# Manual pages


def manual(path: Path) -> str:
    """A page of mdoc as Markdown: its headings, for the table of contents, and between them the HTML that mandoc makes."""
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        raise PluginError("mandoc is missing, which reads the manual pages; on Debian and Ubuntu: apt-get install mandoc")
    done = subprocess.run(
        [mandoc, "-T", "html", "-O", "fragment,man=%N.%S.html", path], capture_output=True, text=True, check=True
    )
    name, _, section = path.name.rpartition(".")
    text = re.sub(r'<table class="(?:head|foot)">.*?</table>|</?section[^>]*>|<br/>\n(?=</)', "", done.stdout, flags=re.DOTALL)
    text = re.sub(r'<a class="Xr" href="([^"]*)">(.*?)</a>', _reference, text, flags=re.DOTALL)
    text = re.sub(r'(<a class="Sx" href=")#([^"]*)"', lambda found: f'{found[1]}{_page_of(found[2], path)}#{found[2]}"', text)
    parts = re.split(r'<h([12]) class="S[hs]" id="([^"]*)">(.*?)</h\1>', text, flags=re.DOTALL)
    made = [f"# {name}({section})", _block(parts[0])]
    for level, anchor, heading, body in zip(*[iter(parts[1:])] * 4, strict=True):
        title = " ".join(html.unescape(re.sub(r"<[^>]+>", "", heading)).split())
        # attr_list takes an underscore at the beginning for emphasis
        mark, own = ("", f'<a id="{anchor}"></a>\n') if anchor.startswith("_") else (f" {{#{anchor}}}", "")
        made += [f"{'#' * (int(level) + 1)} {_escaped(title)}{mark}", _block(own + body)]
    return "\n\n".join(filter(None, made)) + "\n"


def _reference(match: re.Match[str]) -> str:
    """A link to another of our pages; the name of anybody else's."""
    ours = match[1].removesuffix(".html") in MANUALS
    return match[0] if ours else f"<em>{match[2]}</em>"


def _page_of(section: str, path: Path) -> str:
    """The page that has a section: empty if it is this one."""
    for name in (path.name, *MANUALS):
        if f".Sh {section.replace('_', ' ')}\n" in (path.parent / name).read_text(encoding="utf-8"):
            return "" if name == path.name else f"{name}.html"
    return ""


def _block(body: str) -> str:
    """HTML that Markdown leaves as it is."""
    body = body.strip()
    return f'<div class="mdoc" markdown="0">\n{body}\n</div>' if re.sub(r"</?div[^>]*>|\s", "", body) else ""


def _escaped(text: str) -> str:
    """Text in which Markdown sees nothing."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


# Commands


def commands() -> str:
    """What `--help` prints: a table of all commands, then each of them."""
    group: Any = typer.main.get_command(command_line())
    described, rows = [], []
    for name, command in group.commands.items():
        with command.make_context(name, ["x"] * 3, resilient_parsing=True, terminal_width=COLUMNS) as context:
            context.info_name = f"snapmirror {name}"
            text = command.get_help(context)
        rows.append(f"| [{name}](#{name}) | {_escaped(command.get_short_help_str(200))} |")
        described.append(f"## {name} {{#{name}}}\n\n```text\n{text}\n```\n\n[{name} in the manual](snapmirror.1.md#{name})")
    head = "# Commands\n\nWhat `snapmirror COMMAND --help` prints. The manual says more: [snapmirror(1)](snapmirror.1.md).\n"
    return "\n".join([head, "| command | |", "|---|---|", *rows]) + "\n\n" + "\n\n".join(described) + "\n"


# The API


def api(document: dict[str, Any]) -> str:
    """An OpenAPI document as a page."""
    made = [
        "# API",
        "Below `/-/api/v1/` of a server, for programs. All answers are JSON. The description for programs, "
        "[openapi.json](openapi.json), is on every server too, at `/-/api/v1/openapi.json`.",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            made += [f"## `{method.upper()} {path}`", f"{operation['summary']}.", *_parameters(operation["parameters"])]
            for status, answer in operation["responses"].items():
                said = "Answers" if status == "200" else "With any other status"
                made.append(f"{said}: {_kind(_schema(answer))}, {answer['description']}.")
    made.append("## What comes back {#schemas}")
    for name, schema in document["components"]["schemas"].items():
        made += [f"### {name}", *_described(schema)]
    return "\n\n".join(made) + "\n"


def _schema(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return found


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    if parameters:
        rows = [f"| `{one['name']}` | {one['in']} | {one['description']} |" for one in parameters]
        yield "\n".join(["| parameter | in the | |", "|---|---|---|", *rows])


def _described(schema: dict[str, Any]) -> Iterator[str]:
    if "description" in schema:
        yield schema["description"]
    if "properties" in schema:
        needed = schema.get("required", [])
        rows = [
            f"| `{name}` | {_kind(kind)} | {'' if name in needed else 'may be missing'} |"
            for name, kind in schema["properties"].items()
        ]
        yield "\n".join(["| field | | |", "|---|---|---|", *rows])


def _kind(schema: dict[str, Any]) -> str:
    """A type in words, with links to those that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"object of {_kind(schema.get('additionalProperties') or {})} by name"
    return str(schema.get("type", "any value"))
