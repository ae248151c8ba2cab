// The page of `make review ARGS="--pairs …"`. Texts come from models: they are only ever set as textContent.
"use strict";

let pairs = [];
let file = "";
let current = null;      // the pair that is shown; null at the end
const skipped = new Set();
const steps = [];        // what was done on this page: {kind: "skip" | "judgement", id}

function showCount() {
  const decided = pairs.filter((pair) => pair.decided).length;
  part("count").textContent = `${decided} of ${pairs.length} judged`;
  part("progress").max = pairs.length || 1;
  part("progress").value = decided;
}

function answer(side, text) {
  part(`${side}-text`).textContent = text || "(an empty answer)";
  part(side).classList.toggle("nothing", !text);
}

function show(pair) {
  current = pair;
  part("card").hidden = pair === null;
  part("end").hidden = pair !== null;
  part("reference").hidden = true;
  document.activeElement?.blur();
  showCount();
  if (pair === null) return showEnd();
  part("place").textContent = [pair.prompt_id, pair.category, pair.split].filter(Boolean).join("  ·  ");
  part("before").replaceChildren(...pair.before.map((message) => {
    const item = made("li", "", "");
    item.append(made("span", "chip", message.role), made("span", "text", message.content));
    return item;
  }));
  part("text").textContent = pair.question;
  part("shown").hidden = pair.context.length === 0;
  part("context").replaceChildren(...pair.context.map((passage) => made("li", "", passage)));
  answer("left", pair.left);
  answer("right", pair.right);
  part("reference").textContent = pair.reference;
  window.scrollTo(0, 0);
}

function showEnd() {
  const left = pairs.filter((pair) => skipped.has(pair.id)).length;
  part("end-title").textContent = left ? `${left} skipped, all others judged.` : "All pairs are judged.";
  part("end-text").textContent = `The judgements are in ${file}. Next: run dvc repro, then commit ${file} with dvc.lock and metrics/.`;
  part("again").hidden = left === 0;
}

function next() {
  const start = current === null ? 0 : pairs.indexOf(current) + 1;
  const open = (pair) => !pair.decided && !skipped.has(pair.id);
  show(pairs.slice(start).find(open) ?? pairs.slice(0, start).find(open) ?? null);
}

const judge = (preferred) => alone(async () => {
  const pair = current;
  if (pair === null) return;
  const said = await ask("/api/decide", { id: pair.id, preferred });
  if (said.error && !said.decided) return say(said.error, true);
  pair.decided = true;
  skipped.delete(pair.id);
  if (said.error) {
    say(said.error, true);
  } else {
    steps.push({ kind: "judgement", id: pair.id });
    say(`${pair.prompt_id}: ${{ left: "left is better", right: "right is better", tie: "a tie" }[preferred]}  (line ${said.line})`);
  }
  next();
});

function skip() {
  if (busy || current === null) return;
  skipped.add(current.id);
  steps.push({ kind: "skip", id: current.id });
  say(`${current.prompt_id}: skipped`);
  next();
}

const undo = () => alone(async () => {
  const last = steps.at(-1);
  if (last?.kind === "skip") {
    steps.pop();
    skipped.delete(last.id);
    const pair = pairs.find((one) => one.id === last.id);
    say(`${pair.prompt_id}: back again`);
    return show(pair);
  }
  const said = await ask("/api/undo", {});
  if (said.error) return say(said.error, true);
  if (last?.id === said.id) steps.pop();
  const pair = pairs.find((one) => one.id === said.id);
  pair.decided = false;
  say(`${pair.prompt_id}: undone`);
  show(pair);
});

function again() {
  skipped.clear();
  say("");
  next();
}

function peek() {
  part("reference").hidden = !part("reference").hidden;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || part("help").open) return;
  // Held down, a key must not run through the pairs; and a button in focus takes Enter itself.
  if (event.repeat || (event.key === "Enter" && event.target instanceof HTMLButtonElement)) return;
  const key = keyOf(event);
  const always = { u: undo, "?": () => part("help").showModal() };
  const left = () => judge("left");
  const right = () => judge("right");
  const onPair = { ArrowLeft: left, 1: left, ArrowRight: right, 2: right, t: () => judge("tie"), s: skip, r: peek };
  const atEnd = part("again").hidden ? {} : { Enter: again };
  const action = always[key] ?? (current === null ? atEnd : onPair)[key];
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  const buttons = {
    left: () => judge("left"), right: () => judge("right"), tie: () => judge("tie"), skip, undo, again, peek,
    "end-undo": undo, "help-button": () => part("help").showModal(),
  };
  for (const [id, action] of Object.entries(buttons)) {
    part(id).addEventListener("click", (event) => {
      event.currentTarget.blur();
      action();
    });
  }
  document.addEventListener("keydown", onKey);
  const said = await ask("/api/rows");
  if (said.error) return say(said.error, true);
  ({ rows: pairs, file } = said);
  part("reviewer").textContent = said.reviewer;
  next();
}

start();
