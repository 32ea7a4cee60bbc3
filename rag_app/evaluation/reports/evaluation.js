// One pipeline, measured.

const isCount = (name) => /^(.*)@(\d+)$/.exec(name);

function mainMetrics(run) {
  const deepest = Math.max(...run.ks);
  const names = [`ndcg@${deepest}`, `recall@${deepest}`, `mrr@${deepest}`, "correctness", "faithfulness", "token_f1", "citation_precision"];
  const found = [data.metric, ...names].filter((name) => name in run.metrics);
  return [...new Set(found)].slice(0, 4);
}

function headline(run) {
  const items = mainMetrics(run).map((name) => {
    const interval = run.intervals[name];
    return [name, decimal(run.metrics[name]), interval ? `95 %: ${decimal(interval[0])} to ${decimal(interval[1])}` : ""];
  });
  const total = run.latency.total;
  if (total) items.push(["a question", `${millis(total.p50)} ms`, `p95 ${millis(total.p95)} ms`]);
  if (run.tokens && Object.keys(run.tokens).length) items.push(["1,000 questions", money(run.cost_per_thousand), "of the chat model"]);
  return make("dl", { class: "heads" }, items.map(([name, value, below]) =>
    make("div", {}, make("dt", {}, name), make("dd", { class: "large" }, value), make("dd", { class: "small" }, below))));
}

// Names as `recall@5` by what they measure: [["recall", [1, 3, 5]], …], and the names without a depth.
function byFamily(names) {
  const families = new Map();
  const single = [];
  for (const name of names) {
    const found = isCount(name);
    if (!found) single.push(name);
    else families.set(found[1], [...(families.get(found[1]) || []), Number(found[2])]);
  }
  return [[...families], single, [...new Set([...families.values()].flat())].sort((a, b) => a - b)];
}

function metricTables(run) {
  const [families, single, depths] = byFamily(Object.keys(run.metrics));
  const between = (name) => { const i = run.intervals[name]; return i ? `${decimal(i[0])} to ${decimal(i[1])}` : ""; };
  const cell = (name) => (name in run.metrics ? make("span", { title: `95 %: ${between(name)}` }, decimal(run.metrics[name])) : "");
  const last = ([name, ks]) => `${name}@${Math.max(...ks)}`;
  const byDepth = table("Ranking metrics", [["metric", ([name]) => name, "short"],
    ...depths.map((k) => [`@${k}`, ([name]) => cell(`${name}@${k}`), "number"]),
    [`95 % at the deepest`, (row) => between(last(row)), "number"],
    ["0 to 1", (row) => strip(run.metrics[last(row)], run.intervals[last(row)], 0, 1), ""]], families);
  const rest = table("Other metrics", [["metric", (name) => name + (lowerIsBetter(name) ? " (lower is better)" : ""), "short"], ["mean", cell, "number"],
    ["95 %", between, "number"], ["0 to 1", (name) => strip(run.metrics[name], run.intervals[name], 0, 1), ""]], single);
  return [families.length ? byDepth : null, single.length ? rest : null];
}

function caseMetrics(run, result) {
  const measured = run.names.filter((name, at) => !missing(result.metrics[at]));
  if (!measured.length) return make("p", { class: "quiet" }, "None: it has no evidence.");
  const [families, single, depths] = byFamily(measured);
  const value = (name) => (measured.includes(name) ? decimal(metricOf(run, result, name)) : "");
  return [families.length ? table("Ranking metrics", [["", ([name]) => name, ""], ...depths.map((k) => [`@${k}`, ([name]) => value(`${name}@${k}`), "number"])], families) : null,
    single.length ? table("Other metrics", [["", (name) => name, ""], ["", value, "number"]], single) : null];
}

function stageTable(run) {
  const stages = Object.keys(run.stages);
  if (stages.length < 2) return null;
  const names = Object.keys(run.stages[stages[0]]).filter((name) => (isCount(name) || [0, 0, 0])[2] == Math.max(...run.ks));
  return section("Each stage", table("Metrics of each stage", [["stage", (stage) => stage, ""],
    ...names.map((name) => [name, (stage) => decimal(run.stages[stage][name]), "number"])], stages));
}

function latencyTable(run) {
  const stages = Object.keys(run.latency);
  if (!stages.length) return null;
  return section("Time a question takes, milliseconds", table("Latency by stage", [["stage", (stage) => stage, ""],
    ...["p50", "p95", "mean"].map((name) => [name, (stage) => millis(run.latency[stage][name]), "number"])], stages, (stage) => stage === "total" && "total"));
}

function spending(run) {
  const tokens = Object.entries(run.tokens);
  if (!tokens.length) return null;
  return section("Tokens and money", table("Tokens", [["tokens", ([name]) => name.replaceAll("_", " "), ""], ["all questions", ([, n]) => whole(n), "number"],
    ["a question", ([, n]) => whole(n / run.results.length), "number"]], tokens), make("p", {}, `Cost of this run: ${money(run.cost)}.`));
}

function evaluationCase(run, result) {
  const given = data.cases[result.case];
  const stages = Object.entries(result.rankings);
  return [make("div", { class: "sides" },
    make("div", {}, caseParts(given), answerParts("Answer", result.answer)),
    make("div", {}, make("h3", {}, "Metrics"), caseMetrics(run, result),
      make("h3", {}, "Time"), make("p", {}, Object.entries(result.ms).map(([name, value]) => `${name} ${millis(value)} ms`).join(" · ")))),
  make("div", { class: "sides" }, stages.map(([stage, hits]) => make("div", {}, make("h3", {}, stages.length > 1 ? `After the ${stage}` : "Chunks found"), ranking(hits, given.evidence, null, true))))];
}

function firstRank(hits) {
  const at = hits.findIndex((hit) => hit[3].length);
  return at < 0 ? null : at + 1;
}
const lastStage = (result) => result.rankings.reranker || result.rankings.retriever;

function renderEvaluation() {
  const run = data.runs[0];
  const shown = mainMetrics(run).slice(0, 4);
  const summary = document.getElementById("summary");
  summary.append(headline(run));
  document.getElementById("about").textContent = [plural(run.results.length, "question") + ` from ${run.origin}`,
    `${whole(run.answerable)} answerable`, ...Object.entries(run.index).map(([name, value]) => `${name} ${brief(show(value))}`), `${decimal(run.seconds, 1)} s`].join(" · ");
  document.getElementById("more").append(section("Metrics, means over the questions", metricTables(run)), make("div", { class: "lists" }, stageTable(run), latencyTable(run), spending(run)));
  document.getElementById("end").append(section("Config", fold("all of it", () => make("pre", {}, JSON.stringify({ ...run.config, "the index, as it was": run.index }, null, 2)))));
  const place = document.getElementById("cases");
  place.append(make("h2", {}, "Questions, worst first"));
  const columns = [
    { name: "id", value: (r) => data.cases[r.case].id, kind: "short" },
    { name: "question", value: (r) => data.cases[r.case].question, cell: (r) => [data.cases[r.case].question, " ", data.cases[r.case].tags.map((tag) => make("span", { class: "tag" }, tag))], kind: "" },
    ...shown.map((name) => ({ name, label: name, value: (r) => metricOf(run, r, name), cell: (r) => decimal(metricOf(run, r, name)), kind: "number" })),
    { name: "first evidence", label: "evidence at", value: (r) => firstRank(lastStage(r)) || (data.cases[r.case].evidence.length ? 1e9 : null), cell: (r) => String(firstRank(lastStage(r)) || (data.cases[r.case].evidence.length ? "not found" : "–")), kind: "number" },
    { name: "ms", label: "ms", value: (r) => r.ms.total, cell: (r) => millis(r.ms.total), kind: "number" },
  ];
  const all = run.results.map((r) => data.cases[r.case]);
  caseTable(place, {
    rows: () => run.results, columns, sort: [2, 1], id: (r) => data.cases[r.case].id, detail: (r) => evaluationCase(run, r),
    words: (r) => wordsOf(data.cases[r.case]) + (r.answer ? r.answer.text.toLowerCase() : ""),
    filters: [{ name: "tag", options: tagsOf(all), keep: (r, tag) => data.cases[r.case].tags.includes(tag) },
      { name: "only", options: [["missed", "evidence not found"], ["wrong", "answer wrong"], ["none", "without evidence"]], keep: (r, which) =>
        which === "none" ? !data.cases[r.case].evidence.length : which === "wrong" ? r.right === false : data.cases[r.case].evidence.length > 0 && !firstRank(lastStage(r)) }],
  });
}
