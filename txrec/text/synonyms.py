"""A shop's own synonyms: words and phrases that find each other, and rewritings that go one way.

sofa, couch, settee             each finds the products of the others
tv => television, fernseher     a search for tv also finds these, not the other way round
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from txrec.errors import DataError
from txrec.text.normal_form import normalise

ARROW = "=>"


@dataclass(frozen=True)
class Synonyms:
    """Phrases by phrase, all of them normalised.

    Attributes:
        phrases: phrase of a query -> phrases that are searched for as well.
    """

    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.phrases)

    @classmethod
    def of(cls, groups: Iterable[Sequence[str]], one_way: Iterable[tuple[str, Sequence[str]]] = ()) -> "Synonyms":
        """Synonyms from lists of phrases.

        Args:
            groups: phrases of which each finds all others.
            one_way: a phrase, and those that it also finds.
        """
        synonyms: dict[str, list[str]] = {}
        pairs = [(one, other) for group in groups for one in group for other in group]
        pairs += [(one, other) for one, others in one_way for other in others]
        for one, other in pairs:
            phrase, synonym = normalise(one), normalise(other)
            if phrase and synonym and phrase != synonym and synonym not in synonyms.setdefault(phrase, []):
                synonyms[phrase].append(synonym)
        return cls({phrase: tuple(others) for phrase, others in synonyms.items() if others})

    @classmethod
    def read(cls, path: Path) -> "Synonyms":
        """Reads a text file of one group per line; empty lines and those that begin with # are skipped.

        Raises:
            DataError: no such file, not UTF-8, or a line without two phrases; names file and line.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; text.synonyms must name a readable text file") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start} is not UTF-8; save the synonyms as UTF-8") from None
        groups, one_way = [], []
        for number, line in _lines(text):
            left, arrow, right = line.partition(ARROW)
            phrases, targets = _phrases(left), _phrases(right)
            if arrow and phrases and targets:
                one_way += [(phrase, targets) for phrase in phrases]
            elif not arrow and len(phrases) > 1:
                groups.append(phrases)
            else:
                raise DataError(
                    f"{path}, line {number}: found {line!r}; expected `one, other` or `one {ARROW} other`, two phrases"
                    " at least"
                )
        return cls.of(groups, one_way)

    def joined(self, more: "Synonyms") -> "Synonyms":
        """Both lists; phrases of `more` come after those of this one."""
        one_way = [*self.phrases.items(), *more.phrases.items()]
        return Synonyms.of((), one_way)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _phrases(text: str) -> list[str]:
    return [phrase for part in text.replace(";", ",").split(",") if (phrase := normalise(part.strip().strip('"')))]
