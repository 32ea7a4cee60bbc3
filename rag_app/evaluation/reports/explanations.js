// Which stage lost the evidence.

function unproved(verdict) {
  if (verdict.proof || verdict.stage === "reached") return null;
  return make("span", { class: "quiet" }, " (the likeliest; nothing proves it)");
}

function walk(verdict, given) {
  const piece = given.evidence[verdict.place];
  const names = Object.keys(data.stages);
  const lost = names.indexOf(verdict.stage);
  const steps = names.slice(0, lost + 1).map((stage, at) => {
    if (stage === "reached") return make("li", { class: "reached" }, "✓ reached the answer");
    return at < lost ? make("li", {}, `· ${stage === "not_in_corpus" ? "in the corpus" : `not ${data.stages[stage]}`}`) : make("li", { class: "lost" }, `✗ ${data.stages[stage]}`);
  });
  const ranks = Object.entries(verdict.ranks);
  return make("div", {}, piece ? make("h3", {}, given.evidence.length > 1 ? `Evidence ${verdict.place + 1}: ` : "Evidence: ", piece.source) : null,
    piece && piece.quote ? make("blockquote", {}, piece.quote) : null,
    make("p", { class: verdict.stage === "reached" ? "better" : "worse" }, data.stages[verdict.stage], unproved(verdict)),
    verdict.proof ? make("p", {}, verdict.proof) : null,
    verdict.note ? make("p", {}, verdict.note) : null,
    list("What would have kept it", verdict.counterfactuals),
    ranks.length ? table("Ranks", [["list", ([name]) => name, ""], ["rank of its best chunk", ([, rank]) => (missing(rank) ? "not in it" : String(rank)), "number"]], ranks) : null,
    verdict.chunks.length ? make("p", { class: "quiet" }, `Chunks that hold it: ${verdict.chunks.join(", ")}`) : null,
    verdict.stage === "reached" ? null : fold("the walk through the stages", () => make("ul", { class: "steps" }, steps)));
}

function explanationDetail(each) {
  const given = data.cases[each.case];
  return make("div", { class: "sides" },
    make("div", {}, make("p", {}, given.question), given.filter ? make("p", { class: "quiet" }, `asked with the filter ${show(given.filter)}`) : null,
      each.verdicts.map((verdict) => walk(verdict, given)),
      given.answers.length ? [make("h3", {}, "Expected answer"), given.answers.map((answer) => make("blockquote", {}, answer))] : null,
      answerParts("Answer", each.answer)),
    make("div", {}, make("h3", {}, "Chunks found"), ranking(markHits(each.hits, given), given.evidence, null, true)));
}

// Explanations do not say which hits hold evidence; the text does.
function markHits(hits, given) {
  return hits.map((hit) => {
    const chunk = chunkOf(hit), letters = Array.from(chunk.text);
    const held = given.evidence.map((piece, at) => (findMarks(chunk, letters, [piece]).length ? at : -1)).filter((at) => at >= 0);
    return [hit[0], hit[1], hit[2], held, hit[4]];
  });
}

function renderExplanations() {
  const total = data.explanations.length;
  document.getElementById("about").textContent = [`${plural(total, "question")} from ${data.origin}`, `${decimal(data.seconds, 1)} s`].join(" · ");
  const cases = document.getElementById("cases");
  const rows = Object.entries(data.lost).filter(([stage, count]) => count || stage === "reached");
  const proved = (stage) => data.explanations.filter((each) => each.stage === stage && each.verdicts.some((v) => v.stage === stage && v.proof)).length;
  const counted = Object.values(data.lost).reduce((sum, count) => sum + count, 0);
  let asked = null;
  document.getElementById("summary").append(section("Where questions were lost", table("Failures by stage", [
    ["stage", ([stage]) => data.stages[stage] || stage, "name"],
    ["questions", ([, count]) => whole(count), "number"],
    ["share", ([, count]) => (counted ? `${Math.round((100 * count) / counted)} %` : "–"), "number"],
    ["proved", ([stage]) => (stage === "reached" ? "" : whole(proved(stage))), "number"],
    ["", ([stage, count]) => (count ? make("button", { type: "button", class: "link again", onclick: () => { asked.filter(0, stage); cases.scrollIntoView(); cases.focus({ preventScroll: true }); } }, "show") : ""), ""]], rows)));
  cases.append(make("h2", {}, "Questions, earliest stage first"));
  const order = Object.keys(data.stages);
  const main = (each) => each.verdicts.find((verdict) => verdict.stage === each.stage) || { stage: "reached", proof: "", note: "", counterfactuals: [] };
  asked = caseTable(cases, {
    rows: () => data.explanations, sort: [2, 1], id: (e) => data.cases[e.case].id, detail: explanationDetail,
    words: (e) => `${wordsOf(data.cases[e.case])} ${main(e).proof} ${main(e).note}`.toLowerCase(),
    columns: [
      { name: "id", value: (e) => data.cases[e.case].id, kind: "short" },
      { name: "question", value: (e) => data.cases[e.case].question, cell: (e) => data.cases[e.case].question, kind: "" },
      { name: "stage", value: (e) => order.indexOf(e.stage), cell: (e) => make("span", { class: e.stage === "reached" ? "better" : "worse" }, data.stages[e.stage]), kind: "" },
      { name: "proof", label: "proof:", cell: (e) => make("span", {}, main(e).proof || main(e).note, unproved(main(e))), kind: "" },
      { name: "what would keep it", cell: (e) => main(e).counterfactuals.slice(0, 1).join(""), kind: "" }],
    filters: [{ name: "stage", options: rows.map(([stage]) => [stage, data.stages[stage] || stage]), keep: (e, stage) => e.stage === stage },
      { name: "tag", options: tagsOf(data.cases), keep: (e, tag) => data.cases[e.case].tags.includes(tag) }],
  });
  document.getElementById("end").append(section("Config", fold("all of it", () => make("pre", {}, JSON.stringify(data.config, null, 2)))));
}
