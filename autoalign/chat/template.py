"""Which chat template: by name, by path, or the tokenizer's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from autoalign.chat.jinja import compiled, has_marks
from autoalign.errors import TemplateError, nearest

_FOLDER = Path(__file__).parent / "templates"
# Names that the upstream toolkit gave to what is the same text here, where no
# template but qwen2.5 and vicuna adds a system message of its own.
_ALIASES = {"llama-2-chat-keep-system": "llama-2-chat", "glm-4-chat-keep-system": "glm-4-chat"}


@dataclass(frozen=True)
class Template:
    """A chat template: `source` is Jinja text, `name` what messages call it."""

    name: str
    source: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the source, in hex: what caches and manifests know the template by."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @cached_property
    def has_marks(self) -> bool:
        """Whether `{% generation %}` marks say what is trained on."""
        return has_marks(self.source)


def template_names() -> list[str]:
    """Names of the templates that come with AutoAlign, sorted."""
    return sorted(path.name.removesuffix(".jinja") for path in _FOLDER.glob("*.jinja"))


def get_template(name: str | Template | None, tokenizer: Any = None) -> Template:
    """Find a template.

    Args:
        name: one of `template_names()`, a path to a `.jinja` file, or None for
            the tokenizer's own.
        tokenizer: the Hugging Face tokenizer, needed when `name` is None.

    Raises:
        TemplateError: no such template, an unreadable file, not valid Jinja, or
            a tokenizer without a template.
    """
    if isinstance(name, Template):
        return name
    template = _own(tokenizer) if name is None else _named(name)
    compiled(template.source, template.name)
    return template


def install(tokenizer: Any, template: Template) -> None:
    """Give `template` to the tokenizer, so that `save_pretrained` writes it as `chat_template.jinja`."""
    tokenizer.chat_template = template.source


def _named(name: str) -> Template:
    known = template_names()
    found = _ALIASES.get(name, name)
    if found in known:
        return _builtin(found)
    path = Path(name).expanduser()
    if path.suffix == ".jinja" or path.is_file():
        return Template(name=name, source=_read(path))
    hint = nearest(name, known)
    raise TemplateError(
        f"no chat template is named '{name}'{hint}; there are: {', '.join(known)}; "
        "a path to a .jinja file works too"
    )


@lru_cache(maxsize=64)
def _builtin(name: str) -> Template:
    return Template(name=name, source=_read(_FOLDER / f"{name}.jinja"))


def _read(path: Path) -> str:
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TemplateError(f"{path}: no such chat template file") from error
    except OSError as error:
        raise TemplateError(f"{path}: can't read the chat template: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}: a chat template is UTF-8 text; byte {error.start} is not") from error
    if not source.strip():
        raise TemplateError(f"{path}: the chat template is empty")
    return source


def _own(tokenizer: Any) -> Template:
    source = getattr(tokenizer, "chat_template", None)
    if isinstance(source, dict):
        source = source.get("default")
    if not source:
        raise TemplateError(
            "the tokenizer has no chat template of its own; name one with --conv_template_name "
            f"({', '.join(template_names())}, or a path to a .jinja file)"
        )
    return Template(name="the tokenizer's own", source=source)
