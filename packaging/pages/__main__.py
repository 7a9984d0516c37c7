"""`make pages`: write docs/man and packaging/completions anew."""

from __future__ import annotations

from pages.everything import REPOSITORY, list_strays, make_all


def main() -> None:
    pages = make_all()
    for path in list_strays(pages):
        path.unlink()
    for name, text in pages.items():
        path = REPOSITORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
