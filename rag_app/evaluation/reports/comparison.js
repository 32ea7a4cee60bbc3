// Several configs, measured on the same questions.

function configTable() {
  const { runs, metric } = data;
  const paths = [...new Set(data.settings.flatMap((each) => Object.keys(each)))];
  const ends = runs.flatMap((run) => run.intervals[metric] || []);
  const low = Math.min(...ends), high = Math.max(...ends);
  const priced = runs.some((run) => run.cost_per_thousand);
  const columns = [["", (_, at) => String(at + 1), "number"],
    ["config", (run, at) => [run.name, data.front.includes(at) ? [" ", make("span", { class: "tag", title: "No other is better in quality and as good in time and money." }, "Pareto front")] : null], "name"],
    ...paths.map((path) => [path, (_, at) => (path in data.settings[at] ? show(data.settings[at][path]) : "–"), "setting"]),
    [metric, (run) => decimal(run.metrics[metric]), "number"],
    ["95 %", (run, at) => strip(run.metrics[metric], run.intervals[metric], low, high, !data.tied.includes(at)), ""],
    ["", (_, at) => make("span", { class: "better" }, !data.tied.includes(at) ? "" : data.tied.length === 1 ? "best" : at === data.tied[0] ? "best, tied" : "tied"), "brief"],
    ["p50 ms", (run) => millis((run.latency.total || {}).p50), "number"], ["p95 ms", (run) => millis((run.latency.total || {}).p95), "number"],
    priced ? ["$ / 1,000", (run) => (missing(run.cost_per_thousand) ? "–" : money(run.cost_per_thousand)), "number"] : null].filter(Boolean);
  return section("Configs, best first", make("p", { class: "quiet" }, data.tied.length > 1
    ? `${data.tied.length} cannot be told apart from the best on these questions, itself included: they are tied, and their order means nothing.`
    : "The best can be told from every other."),
  table("Configs, best first", columns, runs));
}

function pairTable() {
  if (!data.pairs.length) return null;
  const box = section("Is it a difference? Every pair");
  const reach = Math.max(...data.pairs.flatMap((pair) => pair.interval.map(Math.abs)), 0.01);
  const columns = [
    ["second against first", (pair) => `${pair.b + 1} against ${pair.a + 1}`, "brief"],
    ["verdict", (pair) => pair.verdict, "name"],
    ["difference", (pair) => signed(pair.difference), "number"],
    ["95 %", (pair) => strip(pair.difference, pair.interval, -reach, reach, !pair.distinguishable), ""],
    ["p, corrected", (pair) => (pair.p < 0.001 ? "< 0.001" : decimal(pair.p)), "number"],
    ["better · same · worse", (pair) => `${pair.wins} · ${pair.ties} · ${pair.losses}`, "number"]];
  const some = 12;
  let shown = table("Every pair", columns, data.pairs.slice(0, some));
  box.append(make("p", { class: "quiet" }, "Numbers are places in the table above; an open point is no difference."), shown);
  if (data.pairs.length > some) {
    const button = make("button", { type: "button", class: "again", onclick: () => { shown.replaceWith(table("Every pair", columns, data.pairs)); button.remove(); } }, `Show all ${data.pairs.length} pairs`);
    box.append(button);
  }
  return box;
}

function ablationTable() {
  if (!data.ablations.length) return null;
  return section("Does it pay? The same config with a stage and without", table("Does it pay?", [
    ["stage", (each) => `${each.stage}: ${each.value}`, "name"],
    ["verdict", (each) => each.verdict, "name"],
    [data.metric, (each) => signed(each.difference), "number"],
    ["95 %", (each) => each.interval.map(signed).join(" to "), "number"],
    ["ms a question", (each) => (each.ms > 0 ? "+" : "") + millis(each.ms), "number"],
    ["$ / 1,000", (each) => (missing(each.cost) ? "no price known" : money(each.cost)), "number"]], data.ablations));
}

function samePiece(a, b) {
  if (a.source !== b.source) return 0;
  const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  return 2 * shared >= Math.min(a.end - a.start, b.end - b.start) ? shared : 0;
}

function findPartner(chunk, others) {
  let best = null, most = 0;
  for (let at = 0; at < others.length; at += 1) {
    if (others[at].id === chunk.id) return at;
    const shared = samePiece(chunk, others[at]);
    if (shared > most) [best, most] = [at, shared];
  }
  return best;
}

// For each hit of either ranking the place of the same piece of text in the other, or null.
function pairHits(before, after) {
  const a = before.map(chunkOf), b = after.map(chunkOf);
  const forth = a.map((chunk) => findPartner(chunk, b)), back = b.map((chunk) => findPartner(chunk, a));
  const taken = new Set(forth.filter((at) => at !== null));
  const pairs = [...forth.map((to, from) => [from, to]), ...back.map((from, to) => [from, to]).filter(([, to]) => !taken.has(to))];
  const count = { appeared: 0, vanished: 0, moved: 0, stayed: 0 };
  for (const [from, to] of pairs) count[from === null ? "appeared" : to === null ? "vanished" : from === to ? "stayed" : "moved"] += 1;
  return { forth, back, count };
}

function findFlip(a, b) {
  if (!a.answer || !b.answer) return "";
  if (!missing(a.right) && !missing(b.right) && a.right !== b.right) return b.right ? "now right" : "now wrong";
  return a.answer.abstained === b.answer.abstained ? "" : b.answer.abstained ? "now abstains" : "now answers";
}
const FLIPS = ["now wrong", "now abstains", "", "now answers", "now right"];

function findChanges(first, second) {
  const sign = lowerIsBetter(data.metric) ? -1 : 1;
  const held = new Map(first.results.map((result) => [result.case, result]));
  return second.results.filter((b) => held.has(b.case)).map((b) => {
    const a = held.get(b.case);
    const before = metricOf(first, a, data.metric), after = metricOf(second, b, data.metric);
    const pairs = pairHits(lastStage(a), lastStage(b));
    return { case: b.case, a, b, before, after, difference: missing(before) || missing(after) ? null : after - before,
      pairs, changed: pairs.count.appeared + pairs.count.vanished + pairs.count.moved, flip: findFlip(a, b) };
  }).sort((x, y) => sign * ((x.difference || 0) - (y.difference || 0)) || FLIPS.indexOf(x.flip) - FLIPS.indexOf(y.flip) || y.changed - x.changed || (data.cases[x.case].id < data.cases[y.case].id ? -1 : 1));
}

function tellMove(other, at, gone, fresh) {
  if (other === null) return make("span", { class: gone ? "worse" : "better" }, gone || fresh);
  return other === at ? null : make("span", { class: "quiet" }, gone ? `→ ${other + 1}` : `from ${other + 1}`);
}

function changeDetail(first, second, change) {
  const given = data.cases[change.case];
  const side = (run, result, places, gone) => make("div", {}, make("h3", {}, run.name),
    answerParts("Answer", result.answer),
    ranking(lastStage(result), given.evidence, (at) => tellMove(places[at], at, gone, "new"), false));
  return [caseParts(given), make("div", { class: "sides" }, side(first, change.a, change.pairs.forth, "gone"), side(second, change.b, change.pairs.back, ""))];
}

function difference(value, reach) {
  if (missing(value)) return "–";
  const bar = make("span", { class: "bar" });
  bar.style.width = `${(2.5 * Math.abs(value)) / reach}rem`;
  const worse = lowerIsBetter(data.metric) ? value > 0 : value < 0;
  if (worse) bar.style.background = "var(--low)";
  return make("span", { class: worse ? "worse" : value ? "better" : "" }, signed(value), value ? bar : null);
}

function renderComparison() {
  const { runs } = data;
  const cases = runs.reduce((most, run) => Math.max(most, run.results.length), 0);
  document.getElementById("about").textContent = [`${plural(cases, "question")} from ${runs[0] ? runs[0].origin : ""}`,
    `${whole(data.embedded)} texts embedded, ${whole(data.cached)} cached`, `${decimal(data.seconds, 1)} s`].join(" · ");
  document.getElementById("summary").append(configTable());
  document.getElementById("more").append(...[pairTable(), ablationTable()].filter(Boolean));
  document.getElementById("end").append(section("Configs in full", runs.map((run) => fold(run.name, () => [make("div", { class: "lists" }, latencyTable(run), spending(run)), metricTables(run), make("pre", {}, JSON.stringify(run.config, null, 2))]))));
  if (runs.length > 1) renderBehaviour(document.getElementById("cases"));
}

function renderBehaviour(place) {
  const { runs } = data;
  const state = { first: 1, second: 0, changes: [] };
  const told = make("p", { role: "status" });
  const sign = lowerIsBetter(data.metric) ? -1 : 1;
  const options = runs.map((run, at) => [at, `${at + 1}. ${run.name}`]);
  let cases = null;
  const update = () => {
    state.changes = findChanges(runs[state.first], runs[state.second]);
    const sum = (key) => state.changes.reduce((total, change) => total + change.pairs.count[key], 0);
    const counted = (keep) => state.changes.filter((change) => keep(change.difference)).length;
    told.textContent = `Better on ${counted((d) => sign * d > 0)}, worse on ${counted((d) => sign * d < 0)}, the same on ${counted((d) => !d)}. ` +
      `Chunks: ${whole(sum("appeared"))} appeared, ${whole(sum("vanished"))} vanished, ${whole(sum("moved"))} moved, ${whole(sum("stayed"))} stayed.`;
    if (cases) cases.update();
  };
  place.append(make("h2", {}, "What changed between two, worst first"), make("div", { class: "controls" },
    choose("from", options, 1, (value) => { state.first = Number(value); update(); }),
    choose("to", options, 0, (value) => { state.second = Number(value); update(); })), told);
  update();
  const reach = 1;
  cases = caseTable(place, {
    rows: () => state.changes, sort: [null, 1], id: (c) => data.cases[c.case].id, words: (c) => wordsOf(data.cases[c.case]),
    detail: (c) => changeDetail(runs[state.first], runs[state.second], c),
    columns: [
      { name: "id", value: (c) => data.cases[c.case].id, kind: "short" },
      { name: "question", value: (c) => data.cases[c.case].question, cell: (c) => data.cases[c.case].question, kind: "" },
      { name: "from", label: "from", value: (c) => c.before, cell: (c) => decimal(c.before), kind: "number" },
      { name: "to", label: "to", value: (c) => c.after, cell: (c) => decimal(c.after), kind: "number" },
      { name: "difference", value: (c) => c.difference, cell: (c) => difference(c.difference, reach), kind: "brief" },
      { name: "chunks", label: "chunks", value: (c) => -c.changed, cell: (c) => chunkCounts(c.pairs.count), kind: "number" },
      { name: "answer", value: (c) => FLIPS.indexOf(c.flip), cell: (c) => c.flip, kind: "short" }],
    filters: [{ name: "tag", options: tagsOf(data.cases), keep: (c, tag) => data.cases[c.case].tags.includes(tag) },
      { name: "only", options: [["worse", "worse"], ["better", "better"], ["changed", "any change"], ["flip", "answer flipped"]], keep: (c, which) =>
        which === "worse" ? sign * c.difference < 0 : which === "better" ? sign * c.difference > 0 : which === "flip" ? c.flip !== "" : Boolean(c.difference || c.flip || c.changed) }],
  });
}

function chunkCounts(count) {
  const parts = [count.appeared ? `+${count.appeared}` : "", count.vanished ? `−${count.vanished}` : "", count.moved ? `↕${count.moved}` : ""].filter(Boolean);
  return make("span", { title: `${count.appeared} appeared, ${count.vanished} vanished, ${count.moved} moved, ${count.stayed} stayed` }, parts.join(" ") || "=");
}
