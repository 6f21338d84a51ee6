"""What the site has beyond docs/: the README as its first page, the changelog, and the commands as the program describes them.

Links that lead out of docs/ become links to a page of the site where there is one, and are an error where their file does not exist.
"""

import logging
import pathlib
import re
import subprocess
import sys

from mkdocs.structure.files import File

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import reference  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.hooks")


def help_of(program, command):
    """The help of a command and of those below it, as Markdown."""
    text = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=True).stdout
    yield f"## groupcast {' '.join(command)}".rstrip() + f"\n\n```text\n{text.rstrip()}\n```\n"
    below = re.search(r"^Commands:\n((?:  .*\n|\n)+)", text, re.M)
    for name in re.findall(r"^  ([a-z]+)", below[1], re.M) if below else []:
        if name != "help":
            yield from help_of(program, [*command, name])


def on_files(files, config):
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    program = config["extra"].get("program")
    content = "# Commands\n\n" + "\n".join(help_of(program, [])) if program else "# Commands\n\n`groupcast --help` lists them.\n"
    files.append(File.generated(config, "commands.md", content=content))
    # Tables of many columns scroll by themselves.
    files.append(File.generated(config, "site.css", content="div[role=main] table { display: block; overflow-x: auto; }\n"))
    if program:
        for page, content in reference.pages(lambda command: subprocess.check_output([program, *command], text=True)):
            files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    source = page.file.src_uri
    if source.startswith("reference/") or source == "commands.md":
        # They are made, with links between the site's own pages.
        return markdown
    above = pathlib.PurePosixPath(source).parent
    folder = ROOT if source in PAGES.values() else ROOT / "docs" / above

    def replaced(link):
        text, path, anchor = link[1], link[2], link[3] or ""
        target = (folder / path).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            log.warning("%s links to %s, which does not exist", source, path)
            return link[0]
        below = target.relative_to(ROOT).as_posix()
        up = "../" * len(above.parts)
        if below in PAGES:
            return f"[{text}]({up}{PAGES[below]}{anchor})"
        if below.startswith("docs/") and target.is_file():
            return f"[{text}]({up}{below.removeprefix('docs/')}{anchor})"
        # A file or folder of the repository, which the site does not have.
        return f"[{text}]({config['repo_url'].rstrip('/')}/blob/main/{below})" if config["repo_url"] else text

    return LINK.sub(replaced, markdown)
