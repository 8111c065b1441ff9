// Everything here is an extra: the page reads, prints and links without it.
"use strict";
(() => {
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  const theme = () => {
    const root = document.documentElement;
    const dark = () => root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const button = make("button", "", { type: "button", id: "theme" });
    const show = () => { button.textContent = dark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; show(); });
    show();
    document.querySelector(".actions").append(button);
  };

  // A cell sorts by its number where it has one, else by its text; what is not recorded comes last.
  const compare = (column, sign) => (a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    if ("v" in x.dataset || "v" in y.dataset) {
      if (!("v" in x.dataset)) return 1;
      if (!("v" in y.dataset)) return -1;
      return sign * (Number(x.dataset.v) - Number(y.dataset.v));
    }
    return sign * x.textContent.localeCompare(y.textContent, undefined, { numeric: true });
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const now = head.getAttribute("aria-sort");
        const next = now ? (now === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare(column, next === "ascending" ? 1 : -1)));
      });
    });
    // A number's definition is that of its column.
    table.addEventListener("mouseover", (event) => {
      const cell = event.target.closest("td");
      const meaning = cell && heads[cell.cellIndex].title;
      if (meaning && !cell.title) cell.title = meaning;
    });
  };

  const filterable = (holder, table) => {
    if (table.tBodies[0].rows.length < 12) return;
    const input = make("input", "", {
      type: "search", class: "filter", placeholder: "Filter rows", "aria-label": `Filter: ${table.caption.textContent}`,
    });
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    holder.prepend(input);
  };

  const copyable = (block) => {
    const button = make("button", "Copy", { type: "button", class: "copy" });
    button.addEventListener("click", async () => {
      const code = block.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  };

  const whereAmI = () => {
    const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-10% 0px -80% 0px" });
    for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
  };

  theme();
  for (const holder of document.querySelectorAll(".table")) {
    const table = holder.querySelector("table");
    if (table) { sortable(table); filterable(holder, table); }
  }
  for (const block of document.querySelectorAll("pre")) copyable(block);
  addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
  whereAmI();
})();
