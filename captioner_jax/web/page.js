// A picture at a time: its captions, and where the captioner looked for each word of the best one.
"use strict";

const part = (id) => document.getElementById(id);
const form = part("settings");
let picture = null;  // the File
let answer = null;   // what the captioner said of it
let word = 0;        // the token whose looks are shown
let asking = new AbortController();

const begun = (async () => {
  const { choice, largest, framing } = await (await fetch("settings")).json();
  for (const [name, value] of Object.entries(choice)) form.elements[name].value = value ?? "";
  part("frame").dataset.framing = framing;
  return { largest };
})();

function take(file) {
  if (!file) return say("", "There is no picture in that.");
  picture = file;
  part("name").textContent = file.name;
  URL.revokeObjectURL(part("picture").src);
  part("picture").src = URL.createObjectURL(file);
  ask();
}

async function ask() {
  if (!picture) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  part("result").ariaBusy = true;
  say("Looking …");
  try {
    const said = await captions(signal);
    if (!signal.aborted) show(said);
  } catch (error) {
    if (signal.aborted) return;  // a newer picture or setting is on its way
    part("result").hidden = true;
    say("", error.message);
  }
  if (!signal.aborted) part("result").ariaBusy = false;
}

async function captions(signal) {
  const { largest } = await begun;
  if (!form.reportValidity()) throw new Error("One of the settings cannot be had.");
  if (picture.size > largest) throw new Error(`${picture.name} has more than ${largest / 2 ** 20} MiB.`);
  const settings = Object.fromEntries(
    Array.from(form.elements, ({ name, value }) => [name, value === "" ? null : Number(value)]));
  const address = "captions?settings=" + encodeURIComponent(JSON.stringify(settings));
  const headers = { "Content-Type": picture.type || "image/unknown" };
  const started = performance.now();
  const response = await fetch(address, { method: "POST", headers, body: picture, signal }).catch(() => {
    throw new Error("The captioner does not answer. Does sample.py still run?");
  });
  const said = await response.json().catch(() => ({ error: "it failed; the terminal of sample.py says why" }));
  if (!response.ok) throw new Error(`${picture.name}: ${said.error}`);
  say(`Captioned in ${((performance.now() - started) / 1000).toFixed(2)} s.`);
  return said;
}

function say(status, error = "") {
  part("status").textContent = status;
  part("error").textContent = error;
}

function show(said) {
  answer = said;
  part("result").hidden = false;
  part("picture").alt = said.captions[0].text;
  part("captions").replaceChildren(...said.captions.map(({ text, score, log_p }) => {
    const row = document.createElement("tr");
    for (const content of [text, score.toFixed(2), log_p.toFixed(2)]) row.insertCell().textContent = content;
    return row;
  }));
  part("looking").hidden = part("map").hidden = said.looks === null;
  if (said.looks !== null) showWords(said);
}

function showWords({ tokens, looks }) {
  part("words").replaceChildren(...tokens.map((token, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = token;
    for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, () => look(index));
    return button;
  }));
  offer(part("layer"), looks.map((_, l) => [l, l + 1 === looks.length ? `${l + 1}, the last` : `${l + 1}`]), looks.length - 1);
  offer(part("head"), [["mean", "mean of all"], ...looks[0].map((_, n) => [n, `${n + 1}`])], "mean");
  look(0);
}

// The choices of a list, which keeps what was chosen where it still can.
function offer(list, choices, first) {
  const chosen = list.value;
  list.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  list.value = choices.some(([value]) => String(value) === chosen) ? chosen : first;
}

function look(index) {
  word = index;
  Array.from(part("words").children, (button, i) => button.setAttribute("aria-pressed", i === index));
  const map = mapOf(answer.looks[part("layer").value], part("head").value, index);
  const likely = (100 * answer.probabilities[index]).toFixed(1);
  part("told").textContent = `“${answer.tokens[index]}”: probability ${likely} %, looked at most: ${place(map)}`;
  draw(map);
}

// Of a layer's looks [N T y x], those [y x] of one head, or of their mean, for a token.
function mapOf(heads, head, token) {
  if (head !== "mean") return heads[head][token];
  return heads[0][token].map((row, y) => row.map((_, x) =>
    heads.reduce((sum, maps) => sum + maps[token][y][x], 0) / heads.length));
}

// In words, in which ninth of what it sees the largest look lies.
function place(map) {
  const flat = map.flat();
  const most = flat.indexOf(Math.max(...flat));
  const third = (at, size, names) => names[Math.min(2, Math.floor(3 * (at + 0.5) / size))];
  const row = third(Math.floor(most / map[0].length), map.length, ["top", "middle", "bottom"]);
  const column = third(most % map[0].length, map[0].length, ["left", "middle", "right"]);
  return row === column ? "the middle" : `${row} ${column}`;
}

// Darkness over the picture, the less the more it looked there.
function draw(map) {
  const [rows, columns, most] = [map.length, map[0].length, Math.max(...map.flat())];
  const cells = new ImageData(columns, rows);
  map.flat().forEach((look, i) => { cells.data[4 * i + 3] = 190 * (1 - look / most); });
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(cells, 0, 0);
  const canvas = part("map");
  canvas.width = canvas.height = 448;
  const brush = canvas.getContext("2d");
  brush.drawImage(small, 0, 0, canvas.width, canvas.height);
  canvas.hidden = !part("shown").checked;
}

part("picture").addEventListener("load", ({ target }) => {
  part("frame").style.setProperty("--shape", target.naturalWidth / target.naturalHeight);
});
part("picture").addEventListener("error", () => {
  part("frame").style.removeProperty("--shape");
  part("name").textContent = `${picture.name}, which this browser cannot show`;
});
part("file").addEventListener("change", ({ target }) => {
  if (target.files.length) take(target.files[0]);
  target.value = "";  // so that the same file can be chosen again
});
for (const id of ["layer", "head", "shown"]) part(id).addEventListener("change", () => look(word));
form.addEventListener("change", ask);
form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) take(clipboardData.files[0]);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  part("drop").classList.add("over");
});
document.addEventListener("dragleave", () => part("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  part("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
