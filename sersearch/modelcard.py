"""The model card: README.md of a bundle, for people who decide whether and where to use a model.

Its sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Everything in it is in bundle.json,
too: :func:`origin` puts it there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sersearch.families import get_family
from sersearch.family import LAST_EPOCH
from sersearch.markup import markdown

if TYPE_CHECKING:
    from sersearch.study import Study

NOT_GIVEN = "not given"


# --- what a study says ------------------------------------------------------------------------------------------------


def origin(study: Study, card: Mapping[str, Any], data_licence: str | None) -> dict[str, Any]:
    """`data`, `search` and `test` of the bundle whose other content is `card`: where it all came from. JSON-ready."""
    data, space, metric = study.meta["data"], study.meta.get("space") or {}, card["best_by"]
    split = _read(study.folder / "split.json")
    parts = {
        name: {"utterances": part["utterances"], "hours": part["hours"], "speakers": len(part["speakers"])}
        for name, part in split.get("parts", {}).items()
    }
    return {
        "data": {
            "corpus": data.get("corpus"),
            "pretrained_on": Path(data["aux"]).name if data.get("aux") else None,
            "protocol": split.get("caption"),
            "parts": parts,
            "leaks": [leak for leak in split.get("leaks", []) if leak["kind"] != "sentence"],
            "licence": data_licence or NOT_GIVEN,
        },
        "search": {
            "space": space.get("name"),
            "searched": sorted(space.get("search", {})),
            "method": study.meta.get("method"),
            "trials": len(study.trials()),
            "seed": study.meta.get("seed"),
            "best": study.best(None if metric == study.meta["objective"]["metric"] else metric).number,
        },
        "test": _tested(study, card),
    }


def _tested(study: Study, card: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluate` found of this trial, chosen by this metric: `model` of these weights, `seeds` of further ones."""
    found: dict[str, Any] = {"model": None, "seeds": None}
    one = _read(study.folder / "evaluation" / "test.json")
    several = _read(study.folder / "evaluation" / "results.json")
    metric = card["best_by"]
    for result in (one, {**one.get("winners", {}).get(metric, {}), "metric": metric}):
        if (result.get("trial"), result.get("metric"), result.get("epoch")) == (card["trial"], metric, card["epoch"]):
            ends = result.get("intervals") or {}
            values = {name: result[name] for name in result if re.fullmatch(r"ua|wa|precision|f1|ccc(_\w+)?", name)}
            figures = {
                n: {"mean": value, "deviation": None, **(ends.get(n) or {"low": None, "high": None})}
                for n, value in values.items()
            }
            found["model"] = {"figures": figures, "tested_before": one.get("tested_before", [])}
            break
    for result in (several, *several.get("further", {}).values()):
        own = result.get("origin", {})
        if (own.get("trial"), own.get("metric")) == (card["trial"], metric):
            seeds = [run["seed"] for run in own["runs"]]
            found["seeds"] = {"figures": result["summary"], "seeds": seeds, "tested_before": own["tested_before"]}
            break
    return found


def _read(path: Path) -> dict[str, Any]:
    """What a file of the study holds; {} where it isn't there, or no longer whole: the card then says less."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# --- what people read -------------------------------------------------------------------------------------------------


def model_card(card: Mapping[str, Any], sha256: str) -> str:
    """The card in Markdown, from what bundle.json holds and the hash of the weights."""
    corpus = (card.get("data") or {}).get("corpus") or "the authors' data"
    sections = {
        "Model": _model(card),
        "Data": _data(card),
        "How it was chosen": _chosen(card),
        "Figures": _figures(card),
        "Limits": _limits(card),
        "Made with": _versions(card, sha256),
    }
    head = f"# {_text(card['family'])}: {_text(card['target'])} in speech, learnt from {_text(corpus)}\n"
    return head + "".join("\n".join([f"\n## {title}\n", *lines, ""]) for title, lines in sections.items())


def _model(card: Mapping[str, Any]) -> Iterator[str]:
    labels = card["labels"]
    what = "classes" if labels["emotion"] else "attributes, on the corpus's scale"
    names = ", ".join(labels["emotion"] or labels["attributes"])
    yield f"- Family: {_text(card['family'])}. {get_family(card['family']).paper}"
    yield f"- Says: {what}: {_text(names)}"
    inputs = [card["features"], *(own["features"] for own in card.get("companions", {}).values())]
    yield f"- Hears: {', '.join(_text(features['features']) for features in inputs)} ({card['features']['dims']}-d)"
    yield f"- Configuration: `{json.dumps(card['config'])}`"
    yield "- Use: `sersearch predict FOLDER some.wav`, or `sersearch.export.Predictor.load(FOLDER)`"


def _data(card: Mapping[str, Any]) -> Iterator[str]:
    data = card.get("data")
    if data is None:
        yield f"- The authors' weights, {_text((card.get('imported') or {}).get('checkpoint'))}: see their paper."
        return
    yield f"- Corpus: {_text(data['corpus'])}, {'synthetic' if card['synthetic'] else 'not synthetic'}"
    if data["pretrained_on"]:
        yield f"- First trained for speaker and gender on: {_text(data['pretrained_on'])}"
    for name, part in data["parts"].items():
        size = f"utterances {part['utterances']}, hours {part['hours']}, speakers {part['speakers']}"
        yield f"- {_text(name).capitalize()}: {size}"
    yield f"- Licence of the data: {_text(data['licence'])}"


def _chosen(card: Mapping[str, Any]) -> Iterator[str]:
    search = card.get("search")
    if search is None:
        yield "- By the authors; see their paper."
        return
    yield f"- Protocol: {_text(card['data']['protocol'])}"
    for leak in card["data"]["leaks"]:
        yield f"- **{leak['count']} {_text(leak['kind'])} in both the {' and the '.join(leak['between'])} part**"
    searched = ", ".join(search["searched"]) or "nothing"
    yield (
        f"- Search: {_text(search['space'])}, which searches {_text(searched)}, by {_text(search['method'])}; "
        f"trials {search['trials']}, seed {search['seed']}"
    )
    by = f"the best by {card['best_by']}, a figure of the development part"
    if card["best_by"] == LAST_EPOCH:
        by = "the last one, as the search says"
    if search["best"] != card["trial"]:
        by = f"named by hand, where trial {search['best']} is the best; of its epochs {by}"
    yield f"- Trial {card['trial']}, epoch {card['epoch']} of study {_text(card['study'])}: {by}"


def _figures(card: Mapping[str, Any]) -> Iterator[str]:
    yield "Of the development part, by which the model was chosen, so rather too good:"
    yield ""
    for name, value in card["metrics"].items():
        if name.startswith("dev_") and not name.startswith("dev_loss_") and value is not None:
            yield f"- {name}: {value:.3f}"
    test = card.get("test") or {}
    if not any(test.values()):
        yield ""
        yield "Of the test part: none, it was not used for this model."
    titles = {"model": "Of the test part, these weights:", "seeds": "Of the test part, trained anew with {} seeds:"}
    for kind, title in titles.items():
        if found := test.get(kind):
            yield from (
                "",
                title.format(len(found.get("seeds", ()))),
                "",
                "| metric | value | 95% interval |",
                "|---" * 3 + "|",
            )
            yield from (
                f"| {_text(name)} | {_value(own)} | {_interval(own)} |" for name, own in found["figures"].items()
            )
            if found["tested_before"]:
                yield ""
                before = ", ".join(map(str, found["tested_before"]))
                yield f"**The test part was used before, for trial {before}: this is too good where that chose.**"


def _value(figure: Mapping[str, Any]) -> str:
    if figure["mean"] is None:
        return "none"
    return f"{figure['mean']:.3f}" + ("" if figure["deviation"] is None else f" ± {figure['deviation']:.3f}")


def _interval(figure: Mapping[str, Any]) -> str:
    if figure.get("low") is None:
        return "none"
    note = f"; {_text(figure['note'])}" if figure.get("note") else ""
    return f"[{figure['low']:.3f}, {figure['high']:.3f}], {figure['units']} {figure['by']}s{note}"


def _limits(card: Mapping[str, Any]) -> Iterator[str]:
    corpus = (card.get("data") or {}).get("corpus")
    if card["synthetic"]:
        yield "- It learnt from synthetic audio: it shows that things run, and says nothing about speech."
    yield (
        f"- Language, age, accent, microphone and noise are those of {_text(corpus or 'the data')}; on others it was "
        "not tested, unless the figures say so. Where emotions were acted, so is what it learnt."
    )
    yield "- Labels are what listeners, or a script, called the speech, not what speakers felt."
    yield (
        "- Not for decisions about people, such as in hiring, at work, in schools, insurance, policing or medicine. "
        "In the European Union inferring emotions of people at work and in education is prohibited (Regulation (EU) "
        "2024/1689, Article 5(1)(f))."
    )
    if "opensmile" in card["features"].get("versions", {}):
        yield (
            "- Its features are made by openSMILE, whose licence is for research and private use: "
            "<https://github.com/audeering/opensmile>. Products need another one."
        )


def _versions(card: Mapping[str, Any], sha256: str) -> Iterator[str]:
    yield f"- SHA-256 of model.safetensors: `{sha256}`"
    yield f"- {', '.join(f'{_text(name)} {_text(version)}' for name, version in card['versions'].items())}"


def _text(value: object) -> str:
    """A name in Markdown; what files that are damaged do not say is unknown."""
    return markdown("unknown" if value is None else str(value))
