// The page of `make review`. Texts come from the data: they are only ever set as textContent.
"use strict";

const NUMBERED = 9;

let rows = [];
let labels = [];
let file = "";
let current = null;      // the row that is shown; null at the end
let shown = [];          // the labels that are offered, in their order
let chosen = 0;          // of these, the one that Enter gives while filtering
const skipped = new Set();
const steps = [];        // what was done on this page: {kind: "skip" | "decision", id}

// The label itself where it is not the one the row has.
const suggestion = () => (current.suggested_label && current.suggested_label !== current.label ? current.suggested_label : null);

function ordered(row) {
  if (labels.length <= NUMBERED) return labels;
  // With many labels, those that are likely come first, and get the numbers.
  const likely = [row.suggested_label, row.label, ...row.neighbours.map((one) => one.label)];
  return [...new Set([...likely.filter((label) => labels.includes(label)), ...labels])];
}

function showLabels() {
  const wanted = part("filter").value.trim().toLowerCase();
  shown = ordered(current).filter((label) => label.toLowerCase().includes(wanted));
  // What begins as typed, before what has it somewhere; the order stays among equals.
  if (wanted) shown.sort((one, other) => other.toLowerCase().startsWith(wanted) - one.toLowerCase().startsWith(wanted));
  chosen = Math.max(0, Math.min(chosen, shown.length - 1));
  part("labels").replaceChildren(...shown.map((label, place) => {
    const button = made("button", "", "");
    button.type = "button";
    // While a label is typed, a digit is part of it.
    if (place < NUMBERED && document.activeElement !== part("filter")) button.append(made("kbd", "", String(place + 1)), " ");
    button.append(label);
    if (label === current.label) button.classList.add("given");
    if (label === suggestion()) button.classList.add("suggested");
    if (wanted && place === chosen) button.classList.add("chosen");
    button.addEventListener("click", () => relabel(label));
    return button;
  }));
  if (wanted) part("labels").children[chosen]?.scrollIntoView({ block: "nearest" });
}

function showCount() {
  const decided = rows.filter((row) => row.decided).length;
  part("count").textContent = `${decided} of ${rows.length} decided`;
  part("progress").max = rows.length || 1;
  part("progress").value = decided;
}

function show(row) {
  current = row;
  part("card").hidden = row === null;
  part("end").hidden = row !== null;
  part("filter").value = "";
  part("reason").value = "";
  document.activeElement?.blur();
  chosen = 0;
  showCount();
  if (row === null) return showEnd();
  const source = row.id.startsWith(`${row.source}:`) ? null : row.source;
  part("place").textContent = [`#${row.rank}`, row.id, source, row.split].filter(Boolean).join("  ·  ");
  part("text").textContent = row.text;
  part("text").scrollTop = 0;
  part("given").replaceChildren(made("span", "chip given", row.label ?? "none"));
  part("suggestion").hidden = suggestion() === null;
  part("suggested").replaceChildren(made("span", "chip suggested", suggestion() ?? ""));
  part("reasons").replaceChildren(...(row.reasons ?? "").split("; ").map((reason) => made("li", "", reason)));
  part("accept").disabled = row.label === null;
  part("take").hidden = suggestion() === null;
  part("take-text").textContent = suggestion() ?? "";
  part("filter").hidden = labels.length <= NUMBERED;
  showLabels();
  part("neighbours").classList.toggle("stacked", labels.length > NUMBERED);
  part("neighbourhood").hidden = row.neighbours.length === 0;
  part("neighbours").replaceChildren(...row.neighbours.map((one) => {
    const item = made("li", "", "");
    const kind = one.label === current.label ? "given" : one.label === suggestion() ? "suggested" : "";
    const text = made("span", "text", one.text);
    text.dir = "auto";
    item.append(made("span", `chip ${kind}`, one.label ?? "none"), text, made("span", "cosine", one.cosine.toFixed(2)));
    return item;
  }));
  window.scrollTo(0, 0);
}

function showEnd() {
  const left = rows.filter((row) => skipped.has(row.id)).length;
  const isEmpty = rows.length === 0;
  part("end-title").textContent = isEmpty ? "The queue is empty." : left ? `${left} skipped, all others decided.` : "All rows are decided.";
  part("end-text").textContent = isEmpty
    ? "Nothing was found that a person should look at."
    : `The decisions are in ${file}. Next: run dvc repro, which applies them, then commit ${file} with dvc.lock and metrics/.`;
  part("again").hidden = left === 0;
}

function next() {
  const start = current === null ? 0 : rows.indexOf(current) + 1;
  const open = (row) => !row.decided && !skipped.has(row.id);
  show(rows.slice(start).find(open) ?? rows.slice(0, start).find(open) ?? null);
}

const decide = (action, label) => alone(async () => {
  const row = current;
  if (row === null) return;
  const body = { id: row.id, action, reason: part("reason").value };
  if (label !== undefined) body.label = label;
  const answer = await ask("/api/decide", body);
  if (answer.error && !answer.decided) return say(answer.error, true);
  row.decided = true;
  skipped.delete(row.id);
  if (answer.error) {
    say(answer.error, true);
  } else {
    steps.push({ kind: "decision", id: row.id });
    const what = answer.field === "row" ? "removed" : answer.old === answer.new ? `${answer.new} confirmed` : `${answer.old || "none"} → ${answer.new}`;
    say(`${row.id}: ${what}  (line ${answer.line})`);
  }
  next();
});

const accept = () => decide("accept");
const relabel = (label) => decide(label === current.label ? "accept" : "relabel", label);
const remove = () => decide("remove");

function take() {
  if (suggestion() === null) return say("no label is suggested; a accepts the one there is");
  return relabel(suggestion());
}

function skip() {
  if (busy || current === null) return;
  skipped.add(current.id);
  steps.push({ kind: "skip", id: current.id });
  say(`${current.id}: skipped`);
  next();
}

const undo = () => alone(async () => {
  const last = steps.at(-1);
  if (last?.kind === "skip") {
    steps.pop();
    skipped.delete(last.id);
    say(`${last.id}: back again`);
    return show(rows.find((row) => row.id === last.id));
  }
  const answer = await ask("/api/undo", {});
  if (answer.error) return say(answer.error, true);
  if (last?.id === answer.id) steps.pop();
  const row = rows.find((one) => one.id === answer.id);
  row.decided = false;
  say(`${answer.id}: undone`);
  show(row);
});

function again() {
  skipped.clear();
  say("");
  next();
}

function enter(field) {
  field.focus();
  field.select();
}

function inFilter(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Enter" && part("filter").value.trim() && shown.length) {
    relabel(shown[chosen]);
  } else if (event.key === "Escape") {
    part("filter").value = "";
    part("filter").blur();
  } else if (step) {
    chosen += step;
    showLabels();
  } else {
    return;
  }
  event.preventDefault();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || part("help").open) return;
  if (event.target === part("filter")) return inFilter(event);
  if (event.target === part("reason")) {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      part("reason").blur();
    }
    return;
  }
  // Held down, a key must not run through the queue; and a button in focus takes Enter itself.
  if (event.repeat || (event.key === "Enter" && event.target instanceof HTMLButtonElement)) return;
  const key = keyOf(event);
  const always = { u: undo, "?": () => part("help").showModal() };
  const onRow = { a: accept, r: remove, s: skip, Enter: take, n: () => enter(part("reason")) };
  if (!part("filter").hidden) onRow["/"] = () => enter(part("filter"));
  if (/^[1-9]$/.test(key) && current !== null) {
    const label = shown[Number(key) - 1];
    onRow[key] = () => (label === undefined ? say(`there is no label ${key}`) : relabel(label));
  }
  const atEnd = part("again").hidden ? {} : { Enter: again };
  const action = always[key] ?? (current === null ? atEnd : onRow)[key];
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  const buttons = { accept, take, remove, skip, undo, again, "end-undo": undo, "help-button": () => part("help").showModal() };
  for (const [id, action] of Object.entries(buttons)) {
    part(id).addEventListener("click", (event) => {
      event.currentTarget.blur();
      action();
    });
  }
  for (const event of ["input", "focus", "blur"]) {
    part("filter").addEventListener(event, () => {
      chosen = 0;
      if (current !== null) showLabels();
    });
  }
  document.addEventListener("keydown", onKey);
  const answer = await ask("/api/rows");
  if (answer.error) return say(answer.error, true);
  ({ rows, labels, file } = answer);
  part("reviewer").textContent = answer.reviewer;
  next();
}

start();
