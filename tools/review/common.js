// What the pages of `make review` have in common. Texts come from the data: they are only ever set as textContent.
"use strict";

const part = (id) => document.getElementById(id);
let busy = false;

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

function say(text, isWrong = false) {
  part("message").textContent = text;
  part("message").classList.toggle("wrong", isWrong);
}

async function ask(address, body) {
  let response;
  try {
    response = await fetch(address, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    return { error: "no answer: does `make review` still run?" };
  }
  try {
    return await response.json();
  } catch {
    return { error: `no answer that can be read (${response.status})` };
  }
}

// What a key writes, and where that is no Latin letter or digit (ф, &, or what an input method takes: Process), what it
// would write on an English keyboard.
function keyOf(event) {
  const place = /^(?:Key|Digit)(.)$/.exec(event.code);
  return place === null || event.shiftKey || !/^(?:[^a-z0-9?/]|Process)$/i.test(event.key) ? event.key : place[1].toLowerCase();
}

// One request at a time: a key pressed while one is under way would decide a row that nobody has seen.
async function alone(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } finally {
    busy = false;
  }
}
