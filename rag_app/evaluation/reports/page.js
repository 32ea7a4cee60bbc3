// Starts the page.

const notes = data.notes || (data.runs[0] || { notes: [] }).notes;
document.getElementById("notes").append(...notes.map((words) => make("p", { class: "note" }, words)));
document.body.dataset.kind = data.kind;
({ evaluation: renderEvaluation, comparison: renderComparison, explanations: renderExplanations })[data.kind]();

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
