// Chunks, evidence and answers: other people's text.

const data = JSON.parse(document.getElementById("data").textContent);
const chunkOf = (hit) => {
  const [id, source, start, end, text] = data.chunks[hit[0]];
  return { id, source: data.sources[source], start, end, text: data.texts[text] };
};

// Where evidence stands in a chunk, in characters as Python counts them.
function findMarks(chunk, letters, evidence) {
  const marks = [];
  for (const each of evidence) {
    if (each.source !== chunk.source) continue;
    if (each.spans.length && letters.length === chunk.end - chunk.start) {
      for (const [start, end] of each.spans) {
        const from = Math.max(start, chunk.start) - chunk.start;
        const to = Math.min(end, chunk.end) - chunk.start;
        if (from < to) marks.push([from, to]);
      }
    } else if (each.quote) {
      const at = chunk.text.indexOf(each.quote);
      if (at >= 0) {
        const from = Array.from(chunk.text.slice(0, at)).length;
        marks.push([from, from + Array.from(each.quote).length]);
      }
    }
  }
  return marks.sort(([a], [b]) => a - b);
}

function marked(chunk, evidence) {
  const letters = Array.from(chunk.text);
  const pieces = [];
  let done = 0;
  for (const [from, to] of findMarks(chunk, letters, evidence)) {
    if (to <= done) continue;
    const start = Math.max(from, done);
    pieces.push(letters.slice(done, start).join(""), make("mark", {}, letters.slice(start, to).join("")));
    done = to;
  }
  pieces.push(letters.slice(done).join(""));
  return make("div", { class: "said" }, pieces);
}

function ranking(hits, evidence, remark, open) {
  if (!hits.length) return make("p", { class: "quiet" }, "Nothing was found.");
  return make("ol", { class: "hits" }, hits.map((hit, at) => {
    const [, score, similarity, held, ranks] = hit;
    const chunk = chunkOf(hit);
    const facts = [`characters ${chunk.start}–${chunk.end}`, `score ${decimal(score)}`,
      missing(similarity) ? null : `similarity ${decimal(similarity)}`,
      ...Object.entries(ranks).map(([name, rank]) => `${name} ${rank}`),
      held.length ? `evidence ${held.map((place) => place + 1).join(", ")}` : null].filter(Boolean).join(" · ");
    const said = remark ? remark(at) : null;
    const box = make("details", {}, make("summary", {}, make("b", {}, String(at + 1)), chunk.source, said ? [" ", said] : null,
      make("span", { class: "facts" }, facts)));
    const fill = () => box.children.length === 1 && box.append(marked(chunk, evidence));
    box.addEventListener("toggle", fill);
    if (open && held.length) { fill(); box.open = true; }
    return make("li", { class: held.length ? "holds" : null }, box);
  }));
}

function evidenceList(given) {
  if (!given.evidence.length) return [make("h3", {}, "Evidence"), make("p", { class: "quiet" }, "None: the documents do not answer it.")];
  return [make("h3", {}, "Evidence"), given.evidence.map((each) => [
    make("p", { class: "quiet" }, each.source, each.spans.length ? ` ${each.spans.map((s) => s.join("–")).join(", ")}` : "",
      each.quote || each.spans.length ? "" : " (the whole document)", each.relevance === 1 ? "" : ` · relevance ${each.relevance}`),
    each.quote ? make("blockquote", {}, each.quote) : null])];
}

function answerParts(words, answer) {
  if (!answer) return [];
  return [make("h3", {}, words, answer.abstained ? " (says that the documents do not answer)" : ""), make("blockquote", {}, answer.text || "(empty)"),
    answer.citations.map((each) => make("p", { class: "quiet" },
      `[${each.number}] ${each.source} ${each.span.join("–")}${each.page ? ` · page ${each.page}` : ""}${each.heading ? ` · ${each.heading}` : ""}: “${each.quote}”`)),
    Object.entries(answer.remarks).map(([name, said]) => make("p", {}, make("span", { class: "quiet" }, `${name}: `), said)),
    Object.keys(answer.usage).length ? make("p", { class: "quiet" }, Object.entries(answer.usage).map(([name, n]) => `${name} ${whole(n)}`).join(" · ")) : null];
}

function caseParts(given) {
  return [make("p", {}, given.question),
    make("p", { class: "quiet" }, [given.place, ...given.tags].filter(Boolean).join(" · "),
      given.filter ? ` · asked with the filter ${show(given.filter)}` : ""),
    evidenceList(given),
    given.answers.length ? [make("h3", {}, "Expected answer"), given.answers.map((each) => make("blockquote", {}, each))] : null];
}

const tagsOf = (cases) => [...new Set(cases.flatMap((each) => each.tags))].sort().map((tag) => [tag, tag]);
const wordsOf = (given) => [given.id, given.question, ...given.tags, ...given.answers, ...given.evidence.map((e) => e.source)].join(" ").toLowerCase();
const metricOf = (run, result, name) => { const at = run.names.indexOf(name); return at < 0 ? null : result.metrics[at]; };
