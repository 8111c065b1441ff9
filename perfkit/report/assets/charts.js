// Zoom, hover and legend toggles by plotly, over charts that are already drawn without it.
"use strict";
(() => {
  const SHAPES = { circle: "circle", square: "square", diamond: "diamond", triangle: "triangle-up" };
  const WAITING = new Set(["input_wait", "comm_wait", "pipe_bubble", "host_sync", "idle_dependency"]);
  const root = document.documentElement;
  const shown = new Map(); // drawn figures and their data

  // Plotly reads a markup in every text: names from a capture must stay text.
  const plain = (text) => String(text)
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\n", "<br>");
  const variable = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const colour = (key) => variable(key || "ink");

  let loading = null;
  const plotly = () => {
    loading ??= (async () => {
      const packed = atob(document.getElementById("plotly").textContent);
      const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      return window.Plotly;
    })();
    return loading;
  };

  const traces = {
    line: (t) => ({
      type: "scatter", mode: "lines", name: plain(t.name), x: t.x, y: t.y, hoverinfo: "name", showlegend: Boolean(t.name) && !t.labelled,
      line: { color: colour(t.key), width: 1.8, dash: t.dashed ? "dash" : "solid" },
    }),
    dots: (t) => ({
      type: "scatter", mode: "markers", name: plain(t.name), x: t.x, y: t.y, hovertext: t.text.map(plain), hoverinfo: "text",
      marker: {
        color: colour(t.key), size: t.size, symbol: SHAPES[t.shape], opacity: 0.75,
        line: { width: 1, color: variable("bg") },
      },
    }),
    bars: (t) => ({
      type: "bar", name: plain(t.name), x: t.x, y: t.y, hovertext: t.text.map(plain), hoverinfo: "text",
      marker: {
        color: t.keys.length ? t.keys.map((key) => colour(key || t.key)) : colour(t.key), line: { width: 0 },
        pattern: { shape: WAITING.has(t.key) ? "/" : "", fillmode: "overlay", size: 6, fgcolor: variable("bg"), solidity: 0.2 },
      },
    }),
    across: (t) => ({
      type: "bar", orientation: "h", name: plain(t.name), x: t.x, y: t.y, width: t.wide ? 0.75 : 0.28,
      hovertext: t.text.map(plain), hoverinfo: "text", showlegend: false,
      marker: { color: colour(t.key), line: { width: 0 } },
    }),
  };

  // Labels of a log axis for the range in view: decades, or 1, 2, 5 where there are few.
  const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const SECONDS = [[1, "s"], [1e-3, "ms"], [1e-6, "us"], [1e-9, "ns"]];
  const label = (value, suffix) => {
    const scale = suffix === "s" ? SECONDS : PREFIXES;
    const [factor, unit] = scale.find(([least]) => value >= least * 0.999) ?? [1, ""];
    return `${Number((value / factor).toPrecision(3))} ${unit}${suffix === "s" ? "" : suffix}`.replace(/ +/g, " ").trim();
  };
  const ticks = (a, from, to) => {
    const stride = Math.max(1, Math.ceil((to - from) / 9));
    const values = [];
    for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) {
      const steps = to - from < 1 ? [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9] : to - from < 3 ? [1, 2, 5] : (power - Math.floor(from)) % stride ? [] : [1];
      values.push(...steps.map((step) => step * 10 ** power));
    }
    return { tickmode: "array", tickvals: values, ticktext: values.map((value) => label(value, a.suffix)) };
  };

  const axis = (a) => {
    const made = {
      type: a.log ? "log" : "linear", gridcolor: variable("line"), zerolinecolor: variable("line"), linecolor: variable("line"),
      ticksuffix: a.log ? "" : a.suffix ?? "", automargin: true,
    };
    if (a.title) made.title = { text: plain(a.title), standoff: 8 };
    if (a.low !== undefined) made.range = a.log ? [Math.log10(a.low), Math.log10(a.high)] : [a.low, a.high];
    if (a.log && !a.values?.length) Object.assign(made, ticks(a, ...made.range));
    if (a.values?.length) Object.assign(made, { tickmode: "array", tickvals: a.values, ticktext: a.labels.map(plain), ticksuffix: "" });
    return made;
  };

  const labels = (data) => data.labels.map((label) => ({
    text: plain(label.text), showarrow: false, xanchor: label.end ? "right" : "left", yanchor: label.above ? "bottom" : "top",
    x: data.x.log ? Math.log10(label.x) : label.x, y: data.y.log ? Math.log10(label.y) : label.y,
    yshift: label.row * 15, font: { size: 11.5 }, bgcolor: variable("panel"), opacity: 0.85, borderpad: 1,
  }));

  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  const layout = (data, width) => {
    const narrow = width < 560;
    const height = data.rows ? 62 + data.rows * 23 : narrow ? 330 : width < 800 ? 380 : 440;
    const found = {
      height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: data.rows ? "rgba(0,0,0,0)" : variable("panel"),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: variable("ink") },
      margin: { l: 12, r: 12, t: data.rows ? 6 : 34, b: 12 }, minreducedheight: data.rows ? 20 : 64, barmode: data.rows ? "overlay" : "stack", bargap: 0.12, hovermode: "closest",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" }, showlegend: !data.rows,
      hoverlabel: { align: "left", bgcolor: variable("ink"), bordercolor: variable("ink"), font: { color: variable("bg"), size: 12 }, namelength: -1 },
      annotations: labels(data), xaxis: axis(data.x), yaxis: axis(data.y),
    };
    if (data.rows) {
      const most = narrow ? 16 : 48;
      Object.assign(found.yaxis, { ticktext: data.y.labels.map((text) => plain(short(text, most))), showgrid: false, zeroline: false });
    } else if (data.y.suffix === " ms") {
      found.yaxis.rangemode = "tozero";
    }
    found.shapes = (data.shaded ?? []).map(([first, last]) => ({
      type: "rect", x0: first - 0.5, x1: last + 0.5, yref: "paper", y0: 0, y1: 1, layer: "below", line: { width: 0 },
      fillcolor: variable("window"), label: { text: "profiled", textposition: "top center", font: { size: 11, color: variable("soft") } },
    }));
    return found;
  };

  const CONFIG = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage"],
  };

  const paint = (engine, figure) => {
    const holder = figure.querySelector(".live");
    const data = shown.get(figure);
    const drawn = data.traces.map((trace) => traces[trace.kind](trace));
    return engine.react(holder, drawn, layout(data, figure.clientWidth), CONFIG);
  };

  const relabel = (engine, holder, data) => (change) => {
    const updates = {};
    for (const [name, a] of [["xaxis", data.x], ["yaxis", data.y]]) {
      const moved = Object.keys(change).some((key) => key.startsWith(`${name}.range`) || key === `${name}.autorange`);
      if (!moved || !a.log || a.values?.length) continue;
      const found = ticks(a, ...holder.layout[name].range);
      updates[`${name}.tickvals`] = found.tickvals;
      updates[`${name}.ticktext`] = found.ticktext;
    }
    if (Object.keys(updates).length) engine.relayout(holder, updates);
  };

  const draw = async (figure) => {
    const engine = await plotly();
    const holder = figure.querySelector(".live");
    shown.set(figure, JSON.parse(figure.querySelector("script.data").textContent));
    const before = figure.getBoundingClientRect();
    holder.hidden = false;
    figure.classList.add("drawn");
    await paint(engine, figure);
    holder.on("plotly_relayout", relabel(engine, holder, shown.get(figure)));
    // What lies above the reader must not push the page about.
    if (before.bottom < 0) scrollBy(0, figure.getBoundingClientRect().height - before.height);
  };

  if (!("DecompressionStream" in window)) return; // the drawings stay
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "150px 0px" });
  for (const figure of document.querySelectorAll("figure.chart")) watcher.observe(figure);

  const again = async () => {
    if (!shown.size) return;
    const engine = await plotly();
    for (const figure of shown.keys()) paint(engine, figure);
  };
  new MutationObserver(again).observe(root, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
})();
