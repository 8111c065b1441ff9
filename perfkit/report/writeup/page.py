"""A write-up as one HTML file: no script, no network, figures inside, ready to print."""

from collections.abc import Iterator

from markupsafe import Markup, escape

from perfkit.report.writeup.document import (
    Block,
    Bullets,
    Code,
    Document,
    Figure,
    Gap,
    Grid,
    Heading,
    Paragraph,
    YourTurn,
)

_STYLE = """
body{font:16px/1.55 Georgia,serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#10141a;
background:#fff} h1,h2,h3,h4{font-family:system-ui,sans-serif;line-height:1.25}
h2{margin-top:2.2rem;border-bottom:1px solid #c9ced6}
table{border-collapse:collapse;font:14px system-ui,sans-serif}
.table{margin:1rem 0;overflow-x:auto}
th,td{border:1px solid #c9ced6;padding:.3rem .6rem;vertical-align:top}
thead :is(th,td){background:#f2f4f7;text-align:left}
.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:#f2f4f7;padding:.7rem;white-space:pre-wrap;overflow-wrap:anywhere;font-size:14px}
figure{margin:1.5rem 0} figure svg{max-width:100%;height:auto} figcaption{color:#4a5360}
.gap{border-left:4px solid #b45309;background:#fff7ed;padding:.5rem 1rem}
.turn{border-left:4px solid #1d4ed8;background:#eff6ff;padding:.5rem 1rem;min-height:5rem}
@media print{body{max-width:none;font-size:11pt} figure,table,pre{break-inside:avoid}
.table{overflow:visible} td{overflow-wrap:anywhere}}
"""


def render(document: Document) -> str:
    """Return the whole document."""
    body = Markup("\n").join(part for block in document.blocks for part in _parts(block))
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        Markup(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" content="{policy}">'
            "<title>{title}</title><style>{style}</style></head>\n"
            "<body><main><h1>{title}</h1>\n{body}\n</main></body></html>\n"
        )
        .format(policy=policy, title=document.title, style=Markup(_STYLE), body=body)
        .replace("\x00", "")
    )


def _parts(block: Block) -> Iterator[Markup]:
    match block:
        case Heading():
            tag = Markup(f"h{block.level}")
            yield Markup("<{0}>{1}</{0}>").format(tag, block.text)
        case Paragraph():
            yield Markup("<p>{}</p>").format(block.text)
        case Bullets():
            items = Markup("").join(Markup("<li>{}</li>").format(text) for text in block.items)
            yield Markup("<ul>{}</ul>").format(items)
        case Grid():
            yield _grid(block)
        case Figure():
            drawing = Markup(block.svg.partition("?>\n")[2] or block.svg)
            told = Markup("<figcaption>{}</figcaption>").format(block.caption)
            titled = block.caption in block.svg  # the drawing says it itself
            yield Markup("<figure>{}{}</figure>").format(drawing, "" if titled else told)
        case Gap():
            yield Markup(
                '<div class="gap"><p><strong>Missing:</strong> {}. To fill it:</p>'
                "<pre>{}</pre></div>"
            ).format(block.what, block.command)
        case YourTurn():
            yield Markup('<p class="turn"><strong>Your reasoning:</strong> {}</p>').format(
                block.question
            )
        case Code():
            yield Markup("<pre>{}</pre>").format("\n".join(block.lines))


def _grid(block: Grid) -> Markup:
    head = Markup("").join(
        Markup('<th scope="col">{}</th>').format(text) if text else Markup("<td></td>")
        for text in block.header
    )
    told = ", ".join(text for text in block.header if text)
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td{}>{}</td>").format(
                    Markup(' class="n"') if block.is_numeric(i) else "", escape(text)
                )
                for i, text in enumerate(row)
            )
        )
        for row in block.rows
    )
    return Markup(
        '<div class="table" tabindex="0" role="group" aria-label="Table: {}"><table>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(told, head, rows)
