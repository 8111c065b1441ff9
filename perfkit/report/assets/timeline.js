// Zoom, pan and names for the timeline. The drawing of the whole step is in the page already.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const FIELDS = 6; // start, duration, class, label, events, collective
  const HEIGHT = 16;
  const LINKS = 60; // collectives in view up to which all of them are linked

  const shown = (us) => {
    if (us === 0) return "0";
    const [value, unit] = Math.abs(us) >= 1e6 ? [us / 1e6, "s"] : Math.abs(us) >= 1e3 ? [us / 1e3, "ms"] : [us, "us"];
    return `${Number(value.toPrecision(3))} ${unit}`;
  };

  const element = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  const start = (figure) => {
    const data = JSON.parse(figure.querySelector("script.data").textContent);
    const view = figure.querySelector(".view");
    const axis = figure.querySelector(".axis");
    const tip = figure.querySelector(".tip");
    const tools = figure.querySelector(".tools");
    const legend = new Map(data.keys.map((key, i) => [i, figure.querySelectorAll(".legend li")[i].textContent.trim()]));
    const lanes = [...figure.querySelectorAll(".lane svg")].map((svg, i) => ({ svg, ...data.lanes[i] }));
    const links = element("svg", { class: "links", "aria-hidden": "true" });
    const range = document.createElement("span");
    let [from, to] = [0, data.span];
    let pending = false;
    let marked = -1;
    view.append(links);

    const paths = (lane, width) => {
      const scale = width / (to - from);
      const found = new Map();
      const right = new Map();
      for (let i = 0; i < lane.marks.length; i += FIELDS) {
        const begin = Math.max(lane.marks[i], from);
        const end = Math.min(lane.marks[i] + lane.marks[i + 1], to);
        if (end < begin) continue;
        const key = lane.marks[i + 2];
        const x = (begin - from) * scale;
        const w = Math.max((end - begin) * scale, 0.6);
        if (x + w <= (right.get(key) ?? -1)) continue; // already covered to the pixel
        right.set(key, x + w);
        const gap = w > 4 ? 0.6 : 0;
        found.set(key, `${found.get(key) ?? ""}M${x.toFixed(1)} 0h${(w - gap).toFixed(1)}v${HEIGHT}h${(gap - w).toFixed(1)}z`);
      }
      return found;
    };

    const drawAxis = () => {
      const raw = (to - from) / 6;
      const power = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
      const labels = [];
      for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
        const label = document.createElement("span");
        label.textContent = shown(at);
        label.style.left = `${((at - from) / (to - from)) * 100}%`;
        labels.push(label);
      }
      axis.replaceChildren(...labels);
    };

    // One line per collective through the ends of its marks, from the first rank to the last.
    const drawLinks = () => {
      const first = lanes[0].svg.getBoundingClientRect();
      const outer = view.getBoundingClientRect();
      const places = new Map();
      for (const lane of lanes) {
        const box = lane.svg.getBoundingClientRect();
        const last = new Map(); // a collective may have a waiting and a transferring mark
        for (let i = 0; i < lane.marks.length; i += FIELDS) {
          const end = lane.marks[i] + lane.marks[i + 1];
          const id = lane.marks[i + 5];
          if (id >= 0) last.set(id, Math.max(end, last.get(id) ?? 0));
        }
        for (const [id, end] of last) {
          if (end < from || end > to) continue;
          if (!places.has(id)) places.set(id, []);
          const x = ((end - from) / (to - from)) * box.width;
          const y = box.top - outer.top + view.scrollTop;
          places.get(id).push(`${x.toFixed(1)} ${y.toFixed(1)}V${(y + box.height).toFixed(1)}`);
        }
      }
      const drawn = [];
      for (const [id, ends] of places) {
        if (ends.length < 2 || (places.size > LINKS && id !== marked)) continue;
        drawn.push(element("path", { d: `M${ends.join("L")}`, ...(id === marked ? { class: "on" } : {}) }));
      }
      links.style.left = `${first.left - outer.left - view.clientLeft}px`;
      links.style.top = "0";
      links.setAttribute("width", first.width);
      links.setAttribute("height", view.scrollHeight);
      links.replaceChildren(...drawn);
    };

    const draw = () => {
      pending = false;
      const width = lanes[0].svg.clientWidth || 1;
      for (const lane of lanes) {
        lane.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
        const marks = [...paths(lane, width)].map(([key, d]) => element("path", { class: `t-${data.keys[key]}`, d }));
        const edges = lane.window.filter((at) => at >= from && at <= to)
          .map((at) => `M${(((at - from) / (to - from)) * width).toFixed(1)} 0v${HEIGHT}`).join("");
        lane.svg.replaceChildren(...marks, element("path", { class: "edge", d: edges }));
      }
      drawAxis();
      links.setAttribute("height", 0);
      drawLinks();
      range.textContent = `${shown(from)} to ${shown(to)} of ${shown(data.span)}`;
    };
    const redraw = () => { if (!pending) { pending = true; requestAnimationFrame(draw); } };

    const look = (a, b) => {
      const least = Math.max(data.span / 1e5, 0.1);
      const length = Math.min(Math.max(b - a, least), data.span);
      from = Math.min(Math.max(a, 0), data.span - length);
      to = from + length;
      redraw();
    };
    const zoom = (factor, at = (from + to) / 2) => look(at - (at - from) * factor, at + (to - at) * factor);
    const pan = (share) => look(from + (to - from) * share, to + (to - from) * share);
    const whole = () => look(0, data.span);
    const timeAt = (x) => {
      const box = lanes[0].svg.getBoundingClientRect();
      return from + ((x - box.left) / box.width) * (to - from);
    };

    // The shortest mark under the pointer, or the nearest within two pixels.
    const markAt = (lane, x) => {
      const at = timeAt(x);
      const slack = ((to - from) / lane.svg.clientWidth) * 2;
      let best = -1;
      for (let i = 0; i < lane.marks.length; i += FIELDS) {
        if (at < lane.marks[i] - slack || at > lane.marks[i] + lane.marks[i + 1] + slack) continue;
        if (best < 0 || lane.marks[i + 1] < lane.marks[best + 1]) best = i;
      }
      return best;
    };

    const hover = (event) => {
      const lane = lanes.find((candidate) => candidate.svg.contains(event.target));
      const i = lane ? markAt(lane, event.clientX) : -1;
      const id = i < 0 ? -1 : lane.marks[i + 5];
      if (id !== marked) { marked = id; drawLinks(); }
      tip.hidden = i < 0;
      if (i < 0) return;
      const [begin, duration, key, label, events] = lane.marks.slice(i, i + FIELDS);
      const many = events > 1 ? `, ${events} events` : "";
      tip.textContent = `${lane.rank}: ${data.labels[label]} · ${legend.get(key)} · ${shown(duration)} from ${shown(begin)}${many}${id >= 0 ? `, collective ${id}` : ""}`;
      const outer = figure.getBoundingClientRect();
      const left = Math.min(event.clientX - outer.left + 12, outer.width - tip.offsetWidth - 4);
      tip.style.left = `${Math.max(left, 0)}px`;
      tip.style.top = `${event.clientY - outer.top + 16}px`;
    };

    let held = null;
    view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.target.closest(".lane svg")) return;
      held = { x: event.clientX, from, to };
      view.classList.add("drag");
    });
    addEventListener("pointermove", (event) => {
      if (!held) { if (figure.contains(event.target)) hover(event); else tip.hidden = true; return; }
      const shift = ((held.x - event.clientX) / lanes[0].svg.clientWidth) * (held.to - held.from);
      look(held.from + shift, held.to + shift);
    });
    addEventListener("pointerup", () => { held = null; view.classList.remove("drag"); });
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event.clientX));
    }, { passive: false });
    view.addEventListener("dblclick", (event) => zoom(0.4, timeAt(event.clientX)));
    const keys = {
      ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: whole,
    };
    view.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || !(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });

    const buttons = [
      ["−", "Zoom out", () => zoom(2)], ["+", "Zoom in", () => zoom(0.5)], ["◂", "Earlier", () => pan(-0.4)],
      ["▸", "Later", () => pan(0.4)], ["Whole step", "Show the whole step", whole],
    ];
    for (const [text, label, act] of buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", label);
      button.addEventListener("click", act);
      tools.append(button);
    }
    range.setAttribute("aria-live", "polite");
    range.className = "range";
    tools.append(range);
    tools.hidden = false;
    for (const hint of figure.querySelectorAll(".hint")) hint.hidden = false;
    new ResizeObserver(redraw).observe(view);
    addEventListener("beforeprint", () => { whole(); draw(); });
    draw();
  };

  for (const figure of document.querySelectorAll("figure.timeline")) start(figure);
})();
