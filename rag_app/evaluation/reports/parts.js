"use strict";
// Elements are made with text only: nothing in the data is ever read as markup.

function make(tag, given, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function draw(tag, given, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

const missing = (value) => value === null || value === undefined;
const decimal = (value, digits = 3) => (missing(value) ? "–" : value.toFixed(digits));
const signed = (value) => (missing(value) ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3));
const whole = (value) => (missing(value) ? "–" : Math.round(value).toLocaleString("en-US"));
const money = (value) => (missing(value) ? "no price known" : value === 0 ? "$0" : "$" + Number(value.toPrecision(3)));
const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

function millis(value) {
  if (missing(value)) return "–";
  return value < 10 ? value.toFixed(1) : value < 10000 ? Math.round(value).toString() : (value / 1000).toFixed(1) + " s";
}

function show(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

const brief = (text) => (text.length > 16 ? `${text.slice(0, 12)}…` : text);
const lowerIsBetter = (name) => data.lower_is_better.includes(name);

function section(words, ...children) {
  return make("section", {}, make("h2", {}, words), children);
}

function scroll(words, ...children) {
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": words }, children);
}

// columns: [heading, cell of a row, "number" | "name" | ""]
function table(words, columns, rows, mark) {
  const head = columns.map(([name, , kind]) => make("th", { scope: "col", class: kind }, name));
  const body = rows.map((row, at) =>
    make("tr", { class: mark && mark(row, at) },
      columns.map(([, cell, kind], column) =>
        make(column ? "td" : "th", { class: kind, scope: column ? null : "row" }, cell(row, at)))));
  return scroll(words, make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, body)));
}

// A value with its interval between `low` and `high`; a line where zero is.
function strip(value, interval, low, high, open) {
  const at = (x) => 4 + (136 * (x - low)) / (high - low || 1);
  const all = draw("svg", { class: "strip", viewBox: "0 0 144 16", "aria-hidden": "true" });
  all.append(low < 0 && high > 0
    ? draw("line", { class: "axis", x1: at(0), x2: at(0), y1: 0, y2: 16 })
    : draw("line", { class: "axis", x1: 4, x2: 140, y1: 8, y2: 8 }));
  const group = draw("g", { class: open ? "open" : "" });
  if (interval) group.append(draw("line", { x1: at(interval[0]), x2: at(interval[1]), y1: 8, y2: 8 }));
  if (!missing(value)) group.append(draw("circle", { cx: at(value), cy: 8, r: 3.6 }));
  all.append(group);
  return all;
}

function choose(words, options, chosen, changed) {
  const select = make("select", { onchange: () => changed(select.value) },
    options.map(([value, text]) => make("option", { value, selected: String(value) === String(chosen) }, text)));
  return make("label", {}, words, select);
}

function list(words, items) {
  return items.length ? [make("h3", {}, words), make("ul", {}, items.map((item) => make("li", {}, item)))] : [];
}

function fold(words, content) {
  const box = make("details", {}, make("summary", {}, words));
  box.addEventListener("toggle", () => box.children.length === 1 && box.append(content()));
  return box;
}

const SHOWN = 200;

// A table of cases: searched, filtered, sorted, drawn in portions; a row opens its detail.
// columns: {name, cell(row), value(row) for sorting, kind, label}
function caseTable(place, given) {
  const state = { search: "", filters: {}, sort: given.sort, shown: SHOWN, open: new Set() };
  const count = make("p", { class: "quiet", role: "status" });
  const body = make("tbody");
  const more = make("button", { type: "button", class: "again", onclick: () => { state.shown += SHOWN; update(); } }, "Show more");
  const heads = given.columns.map((column, at) => make("th", { scope: "col", class: column.kind },
    column.value ? make("button", { type: "button", onclick: () => order(at) }, column.name) : column.name));

  function order(at) {
    const [sorted, way] = state.sort;
    const first = given.columns[at].kind === "number" ? 1 : 1;
    state.sort = [at, sorted === at ? -way : first];
    update();
  }

  function wanted() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const [at, way] = state.sort;
    const value = at === null ? null : given.columns[at].value;
    const rows = given.rows().filter((row) => words.every((word) => given.words(row).includes(word))
      && given.filters.every((filter, n) => !state.filters[n] || filter.keep(row, state.filters[n])));
    if (!value) return rows;
    return rows.map((row) => [value(row), row]).sort(([a], [b]) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      return (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) * way;
    }).map(([, row]) => row);
  }

  function update() {
    const rows = wanted();
    heads.forEach((head, at) => state.sort[0] === at
      ? head.setAttribute("aria-sort", state.sort[1] > 0 ? "ascending" : "descending")
      : head.removeAttribute("aria-sort"));
    count.textContent = `${rows.length} of ${plural(given.rows().length, "question")}`;
    body.replaceChildren();
    for (const row of rows.slice(0, state.shown)) addRow(row);
    more.hidden = rows.length <= state.shown;
  }

  function addRow(row) {
    const id = given.id(row);
    const button = make("button", { type: "button", "aria-expanded": "false" }, id);
    const line = make("tr", { class: "row", "data-case": id }, given.columns.map((column, at) =>
      make(at ? "td" : "th", { class: column.kind, scope: at ? null : "row", "data-label": column.label }, at ? column.cell(row) : button)));
    const toggle = (open) => {
      const is = line.nextElementSibling && line.nextElementSibling.classList.contains("detail");
      button.setAttribute("aria-expanded", String(open));
      line.classList.toggle("open", open);
      state.open[open ? "add" : "delete"](id);
      if (open && !is) line.after(make("tr", { class: "detail" }, make("td", { colspan: given.columns.length }, given.detail(row))));
      if (!open && is) line.nextElementSibling.remove();
    };
    line.addEventListener("click", (event) => {
      if (event.target === button || !event.target.closest("a, button")) toggle(!state.open.has(id));
    });
    body.append(line);
    if (state.open.has(id)) toggle(true);
  }

  const search = make("input", { type: "search", oninput: () => { state.search = search.value; state.shown = SHOWN; update(); } });
  const chosen = given.filters.map((filter, at) => choose(filter.name, [["", "all"], ...filter.options], "",
    (value) => { state.filters[at] = value; state.shown = SHOWN; update(); }));
  place.append(make("div", { class: "controls" }, make("label", { class: "wide" }, "search", search), chosen), count,
    make("table", { class: "cases" }, make("thead", {}, make("tr", {}, heads)), body), more);
  update();
  return { update, filter: (at, value) => { state.filters[at] = value; chosen[at].querySelector("select").value = value; update(); } };
}
