"""The pages of a report: notebooks with their code folded away, and an index of runs. Self-contained: no script, font or
picture comes from anywhere else."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

from h2t.base.errors import Error
from h2t.recipes import names

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 0 auto; padding: 1rem 1.5rem 4rem }
h1, h2, h3 { line-height: 1.2; margin: 1.6em 0 .5em } a { color: #0060a0 } a.anchor-link { display: none }
img, svg { max-width: 100%; height: auto } pre { overflow-x: auto; white-space: pre-wrap; margin: .4em 0; font: 13px/1.45 ui-monospace, monospace }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums } th, td { padding: .25em .7em; text-align: right }
th { border-bottom: 1.5px solid #222 } tbody tr:nth-child(odd) { background: #f5f7f9 } tbody th, td.text, th.text { text-align: left; font-weight: normal }
.scroll, .output_html, .jp-RenderedHTMLCommon { overflow-x: auto } .code { margin: .3em 0; color: #444 } summary { cursor: pointer; font-size: 13px; color: #666 }
.code .highlight { background: #f5f7f9; padding: .3em .8em; border-left: 3px solid #ccd } .output_stderr, .prompt, .jp-InputPrompt, .jp-OutputPrompt { color: #666 }
.jp-InputPrompt, .jp-OutputPrompt, .prompt { display: none } nav { font-size: 14px; margin-bottom: 1rem } button, input { font: inherit; padding: .25em .7em }
.note { color: #555; font-size: 14px } th[data-sort] { cursor: pointer } .copied { color: #777; font-style: italic } .warn { color: #8a3b00 }
"""
_FOLD = "for (const d of document.querySelectorAll('details.code')) d.open = this.dataset.on !== '1'; this.dataset.on = this.dataset.on === '1' ? '' : '1'; this.textContent = this.dataset.on ? 'Hide all code' : 'Show all code'"
_SORT = """
for (const th of document.querySelectorAll('th[data-sort]')) th.onclick = () => {
  const k = th.cellIndex, body = th.closest('table').tBodies[0], down = th.dataset.sort !== 'down';
  const value = r => { const t = r.cells[k].innerText.trim(), n = parseFloat(t); return isNaN(n) ? t : n; };
  const rows = [...body.rows].sort((a, b) => { const x = value(a), y = value(b);
    return (typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === 'number' ? -1 : 1) * (down ? -1 : 1); });
  body.append(...rows); th.dataset.sort = down ? 'down' : 'up';
};
const find = document.querySelector('#find');
find.oninput = () => { const words = find.value.toLowerCase().split(/ +/);
  for (const r of document.querySelectorAll('#runs tbody tr')) r.hidden = !words.every(w => r.textContent.toLowerCase().includes(w)); };
"""
_TEMPLATE = """{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}<details class="code"><summary>code</summary>{{ super() }}</details>{%- endblock input_group -%}"""
# pictures and tables; a widget's live view needs a server, what it shows instead does not
_SHOWN = [
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
]


def exporter():
    """nbconvert's exporter of a notebook's body. Raises ``h2t.Error`` where nbconvert is not installed."""
    try:
        from nbconvert import HTMLExporter
        from traitlets.config import Config
    except ImportError:
        raise Error(
            "nbconvert is not installed, so no page can be made; `pip install nbconvert`"
        ) from None
    config = Config()
    config.HTMLExporter.preprocessors = []
    made = HTMLExporter(
        config=config,
        raw_template=_TEMPLATE,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    made.display_data_priority = _SHOWN
    made.config.NbConvertBase.display_data_priority = _SHOWN
    return made


def notebook(export, source: Path, name: str, title: str) -> str:
    """An executed notebook as a page. Arguments: ``name`` of the page under the report's folder, for the link back."""
    import nbformat

    book = nbformat.read(source, as_version=4)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if data.pop("application/vnd.jupyter.widget-view+json", None) and not any(
                k.startswith("image/") for k in data
            ):
                data.clear()  # a progress bar: its text is that of its first moment
            data.pop("application/javascript", None)
        cell["outputs"] = (
            [
                o
                for o in cell.get("outputs", [])
                if o["output_type"] not in ("display_data", "execute_result") or o.get("data")
            ]
            if cell.cell_type == "code"
            else []
        )
        if cell.cell_type != "code":
            del cell["outputs"]
    book.metadata.pop("widgets", None)
    body, _ = export.from_notebook_node(book, resources={"metadata": {"path": str(source.parent)}})
    back = "../" * name.count("/") + "index.html"
    nav = f'<nav><a href="{back}">All runs</a> · {html.escape(title)} · <button type="button" onclick="{html.escape(_FOLD)}">Show all code</button></nav>'
    return _page(title, nav + f"<main>{body}</main>", _pygments())


def _pygments() -> str:
    from pygments.formatters import HtmlFormatter

    return (
        HtmlFormatter(style="friendly")
        .get_style_defs(".highlight")
        .replace("background: #f0f0f0", "background: #f5f7f9")
    )


def _page(title: str, body: str, style: str = "") -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{_STYLE}{style}</style></head>\n<body>{body}</body></html>\n'
    )


def index(rows, pages: dict[str, Path], problems: list[str], root: str) -> str:
    """The index: a link to the comparison, and a row a run with what sets it apart, its accuracies and its notebooks.

    Arguments: ``rows`` of ``h2t.study.compare.table.table`` with copies; ``pages`` page name to notebook; ``problems`` to list.
    """
    from h2t.study.compare.groups import METHOD, SEEDS, SETTING

    per_run = {name: part for name, part in rows.groupby("run", sort=True)}
    varying = [
        c
        for c in (*SETTING, *METHOD, *SEEDS)
        if c in rows and rows.drop_duplicates(["run", c])[c].nunique() > 1
    ]
    varying = [
        c
        for c in varying
        if rows.groupby("run")[c].nunique().max() == 1 or c in ("fusion_ratio", "seed")
    ]
    varying = [
        c
        for c in varying
        if not (c.startswith("stage1_") and c[7:] in varying and (rows[c] == rows[c[7:]]).all())
    ]
    methods = sorted(rows["method"].unique(), key=names.order)
    links = {}
    for page in pages:
        folder, _, stem = page.rpartition("/")
        if folder.startswith("runs"):
            links.setdefault(folder[5:] or ".", []).append((stem.removesuffix(".html"), page))
    head = [
        ("run", "text"),
        *((c, "") for c in varying),
        *((m, "") for m in methods),
        ("seconds", ""),
        ("notebooks", "text"),
    ]
    lines = [
        "<tr>"
        + "".join(
            f'<th data-sort="" class="{kind}">{html.escape(text)}</th>' for text, kind in head
        )
        + "</tr>"
    ]
    body = []
    for name, part in per_run.items():
        last = part.iloc[-1]
        cells = [
            f'<td class="text">{html.escape(name if name != "." else Path(root).name)}</td>',
            *(f"<td>{_value(last[c])}</td>" for c in varying),
        ]
        for method in methods:
            of = part[part["method"] == method]
            copied = (
                ' class="copied" title="a copy: trained in another run"'
                if len(of) and of["copy"].all()
                else ""
            )
            cells.append(f"<td{copied}>" + (_span(of["all"]) if len(of) else "") + "</td>")
        cells.append(f"<td>{_value(part[~part['copy']]['seconds'].sum().round())}</td>")
        books = " ".join(
            f'<a href="{quote(page)}">{html.escape(stem)}</a>'
            for stem, page in sorted(links.get(name, []))
        )
        body.append("<tr>" + "".join(cells) + f'<td class="text">{books}</td></tr>')
    without = sorted(set(links) - set(per_run))
    unlisted = "".join(
        f'<li>{html.escape(n)}: no finished step; {" ".join(f"""<a href="{quote(p)}">{html.escape(s)}</a>""" for s, p in links[n])}</li>'
        for n in without
    )
    named = "".join(f"<li>{html.escape(p)}</li>" for p in problems[:500]) + (
        f"<li>and {len(problems) - 500} more</li>" if len(problems) > 500 else ""
    )
    failed = (
        f'<h2 class="warn">Left out ({len(problems)})</h2><ul>{named}{unlisted}</ul>'
        if problems or unlisted
        else ""
    )
    steps = int((~rows["copy"]).sum())
    text = (
        f"<h1>{html.escape(Path(root).name)}: {len(per_run)} run{'s' * (len(per_run) != 1)}</h1>"
        '<p><a href="06_compare_runs.html"><b>The comparison</b></a>: which of these runs is really better?</p>'
        f'<p class="note">Test accuracy over all classes in %, last epoch; {steps} trained steps. In italics: a step that was copied from the run that '
        "trained it, counted once. Several steps of one method: lowest to highest. A click on a heading sorts.</p>"
        '<p><input id="find" type="search" placeholder="find runs" aria-label="find runs"></p>'
        f'<div class="scroll"><table id="runs"><thead>{lines[0]}</thead><tbody>{"".join(body)}</tbody></table></div>{failed}<script>{_SORT}</script>'
    )
    return _page(f"{Path(root).name}: runs", text)


def _value(value) -> str:
    if value is None or value != value:
        return ""
    return html.escape(f"{value:g}" if isinstance(value, float) else str(value))


def _span(values) -> str:
    values = values.dropna()
    if not len(values):
        return "none"
    low, high = values.min(), values.max()
    return f"{low:.2f}" if len(values) == 1 or high - low < 0.005 else f"{low:.1f}–{high:.1f}"
