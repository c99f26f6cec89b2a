"use strict";
// Everything that comes from outside is in `data` and reaches the page as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const { tokens, layers, heads, grid: [rows, columns], seen, tree } = data;
const cells = rows * columns;
const state = { token: 0, layer: 0, head: 0, map: "attention", cell: null }; // layer and head count from 1; 0: the mean
const $ = (id) => document.getElementById(id);

// Elements from text.
function make(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Maps of shares, sent as bytes with the largest value of each.
function unpacked({ bytes, peaks }) {
  const raw = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const size = raw.length / peaks.length;
  return peaks.map((peak, i) => Array.from(raw.subarray(i * size, (i + 1) * size), (v) => (v / 255) * peak));
}
const looks = unpacked(data.looks); // [layer, head, token] in a row
const back = unpacked(data.back);
const grounds = Object.fromEntries(Object.entries(data.grounds).map(([name, maps]) => [name, unpacked(maps)]));

const mean = (maps) => maps[0].map((_, i) => maps.reduce((sum, map) => sum + map[i], 0) / maps.length);
const numbers = (count) => [...Array(count).keys()];
const some = (count, chosen) => (chosen ? [chosen - 1] : numbers(count));
function ofHeads(maps, token, layer, head) {
  const chosen = some(layers, layer).flatMap((l) => some(heads, head).map((n) => l * heads + n));
  return mean(chosen.map((i) => maps[i * tokens.length + token]));
}
function mapOf(token) {
  return state.map === "attention" ? ofHeads(looks, token, state.layer, state.head) : grounds[state.map][token];
}
function scaled(map) {
  const positive = map.map((v) => Math.max(v, 0)), total = positive.reduce((a, b) => a + b) || 1;
  return positive.map((v) => v / total);
}

// In words.
const percent = (p) => (p >= 0.0995 ? `${Math.round(100 * p)} %` : `${(100 * p).toFixed(1)} %`);
const place = (cell) => `row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
const quoted = (text) => `“${text}”`;
const layerName = (layer) => (layer ? `layer ${layer}` : "all layers");
const headName = (head) => (head ? `head ${head}` : "mean of heads");
const TITLES = { attention: "Attention", rollout: "Rollout", gradient: "Gradient-weighted", occlusion: "Occlusion" };
const MEANINGS = {
  attention: "Where the heads looked. A head may look at what it makes nothing of: compare with occlusion.",
  rollout: "What reaches the word through all layers, if heads mix by their weights (Abnar and Zuidema 2020).",
  gradient: "Attention that raised the word’s score, through all layers (Chefer et al. 2021).",
  occlusion: "What the word’s log-probability loses without each cell of the memory: the only map that tries it out.",
};
const TINTS = " Words are tinted by how much this one looked back at them, or by how much of their map is where you point.";
function widest(map) {
  const shares = scaled(map), at = shares.indexOf(Math.max(...shares));
  const entropy = shares.reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);
  return { at, share: shares[at], spread: 2 ** entropy };
}
function toldOfWord() {
  const { text, p } = tokens[state.token];
  const { at, share, spread } = widest(mapOf(state.token));
  const which = state.map === "attention" ? ` of ${layerName(state.layer)}, ${headName(state.head)}` : "";
  return `${quoted(text)}, ${percent(p)} likely. ${TITLES[state.map]}${which}: most at ${place(at)}, ` +
    `${percent(share)} of the map, spread over as much as ${spread.toFixed(1)} of ${cells} cells.`;
}
function served(cell) {
  const shares = tokens.map((_, t) => scaled(mapOf(t))[cell]);
  const first = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3);
  return { shares, words: first.map((t) => `${quoted(tokens[t].text)} ${percent(shares[t])} of its map`) };
}

// The picture.
function paint(canvas, map, colour) {
  const peak = Math.max(...map, 1e-12);
  canvas.width = columns;
  canvas.height = rows;
  const pixels = new ImageData(columns, rows);
  map.forEach((v, i) => pixels.data.set(colour(Math.max(v, 0) / peak), 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
const scratch = document.createElement("canvas");
function overlay(map) {
  const canvas = $("overlay"), context = canvas.getContext("2d");
  const [left, top, width, height] = seen.map((share, i) => share * (i % 2 ? canvas.height : canvas.width));
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "rgb(8 8 12 / .8)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(left, top, width, height);
  paint(scratch, map, (v) => [8, 8, 12, 204 * (1 - v)]);
  context.imageSmoothingQuality = "high";
  context.drawImage(scratch, left, top, width, height);
}
function cellAt(event) {
  const box = $("picture").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width - seen[0]) / seen[2];
  const y = ((event.clientY - box.top) / box.height - seen[1]) / seen[3];
  return x < 0 || y < 0 || x >= 1 || y >= 1 ? null : Math.floor(y * rows) * columns + Math.floor(x * columns);
}
function frame(cell) {
  $("cell").hidden = cell === null;
  if (cell === null) return;
  const box = { left: seen[0] + (cell % columns) * seen[2] / columns, width: seen[2] / columns,
    top: seen[1] + Math.floor(cell / columns) * seen[3] / rows, height: seen[3] / rows };
  for (const [side, share] of Object.entries(box)) $("cell").style[side] = `${100 * share}%`;
}

// What depends on the state.
function show() {
  const pointed = state.cell !== null ? served(state.cell) : null;
  const shares = pointed ? pointed.shares : ofHeads(back, state.token, state.layer, state.head).slice(1);
  const most = Math.max(...shares, 1e-12);
  [...$("caption").children].forEach((word, t) => {
    word.setAttribute("aria-pressed", t === state.token && !pointed);
    word.tabIndex = t === state.token ? 0 : -1;
    word.style.setProperty("--share", 0.6 * (shares[t] ?? 0) / most);
  });
  overlay(pointed ? Array(cells).fill(1) : mapOf(state.token)); // a place is pointed at in the picture as it is
  frame(state.cell);
  $("told").textContent = pointed ? `At ${place(state.cell)}: ${pointed.words.join(", ")}.` : toldOfWord();
  $("layer").value = state.layer;
  $("layer-name").value = layerName(state.layer);
  $("layer").setAttribute("aria-valuetext", layerName(state.layer));
  $("head").value = state.head;
  $("map").value = state.map;
  $("layer").disabled = $("head").disabled = state.map !== "attention";
  $("meaning").textContent = MEANINGS[state.map] + TINTS;
  showHeads();
  showAlternatives();
}
function showHeads() {
  for (const button of $("heads").querySelectorAll("button")) {
    const [layer, head] = button.value.split(" ").map(Number);
    const map = ofHeads(looks, state.token, layer, head), { at, share } = widest(map);
    paint(button.firstChild, map, (v) => [255 * Math.min(1, 1.6 * v), 225 * v ** 1.3, 110 * v ** 3, 255]);
    const chosen = layer === state.layer && head === state.head;
    button.tabIndex = chosen ? 0 : -1;
    button.setAttribute("aria-pressed", chosen && state.map === "attention");
    button.setAttribute("aria-label", `${layerName(layer)}, ${headName(head)}: most at ${place(at)}, ${percent(share)}`);
  }
}
function showAlternatives() {
  const { text, p, alternatives } = tokens[state.token];
  $("alternatives-head").textContent = `Considered in place of ${quoted(text)}`;
  const all = alternatives.some(([other]) => other === text) ? alternatives : [...alternatives, [text, p]];
  $("alternatives").replaceChildren(...all.map(([other, likely]) => {
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.setProperty("--likely", likely);
    const word = make("span", other === text ? { class: "written" } : {}, other);
    return make("li", {}, word, make("span", {}, bar), make("data", { value: likely }, percent(likely)));
  }));
}
function change(settings) {
  Object.assign(state, settings);
  show();
}

// The search, as columns of words.
function growTree() {
  if (!tree.length) return $("search").remove();
  const STEP = 112, ROW = 32, WIDTH = 98;
  const children = tree.map(() => []), roots = [];
  tree.forEach(({ parent }, i) => (parent < 0 ? roots : children[parent]).push(i));
  let leaves = 0;
  const row = [], order = [];
  (function settle(nodes) {
    for (const i of nodes) {
      order.push(i);
      settle(children[i]);
      row[i] = children[i].length ? (row[children[i][0]] + row[children[i].at(-1)]) / 2 : leaves++;
    }
  })(roots);
  const fate = ({ chosen, dropped }) => (chosen ? "in the caption" : dropped ? "dropped" : "kept");
  const buttons = tree.map((branch, i) => {
    const text = `${quoted(branch.beginning)}, log-probability ${branch.log_p.toFixed(2)}, ${fate(branch)}`;
    const looks = { class: branch.chosen ? "chosen" : fate(branch), "aria-label": text, tabindex: -1 };
    const button = make("button", { type: "button", ...looks }, branch.token);
    const [left, top, maxWidth] = [4 + branch.step * STEP, 4 + row[i] * ROW, WIDTH].map((pixels) => `${pixels}px`);
    Object.assign(button.style, { left, top, maxWidth });
    const tell = () => {
      buttons.forEach((other) => (other.tabIndex = other === button ? 0 : -1));
      $("branch").textContent = text;
    };
    button.addEventListener("focus", tell);
    button.addEventListener("pointerenter", tell);
    return button;
  });
  const column = (step) => order.filter((i) => tree[i].step === step);
  $("tree").addEventListener("keydown", (event) => {
    const i = buttons.indexOf(document.activeElement);
    if (i < 0) return;
    const beside = column(tree[i].step), at = beside.indexOf(i);
    const ways = { ArrowLeft: tree[i].parent, ArrowRight: children[i][0] };
    const next = { ...ways, ArrowUp: beside[at - 1], ArrowDown: beside[at + 1] }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    buttons[next]?.focus();
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), room = make("div");
  const width = `${(Math.max(...tree.map(({ step }) => step)) + 1) * STEP}px`, height = `${leaves * ROW + 8}px`;
  for (const canvas of [svg, room]) Object.assign(canvas.style, { width, height });
  svg.setAttribute("aria-hidden", "true");
  $("tree").append(room, svg, ...order.map((i) => buttons[i]));
  tree.forEach(({ parent, chosen }, i) => {
    if (parent < 0) return;
    const [x1, x2] = [buttons[parent].offsetLeft + buttons[parent].offsetWidth, buttons[i].offsetLeft];
    const [y1, y2] = [parent, i].map((j) => buttons[j].offsetTop + buttons[j].offsetHeight / 2);
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M${x1} ${y1} C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`);
    path.setAttribute("class", chosen ? "chosen" : "");
    svg.append(path);
  });
  buttons[order.find((i) => tree[i].chosen) ?? 0].tabIndex = 0;
}

// What is there once.
function begin() {
  document.title = `${data.caption}: what the captioner looked at`;
  $("name").textContent = data.name;
  $("image").src = data.image;
  $("image").alt = `${data.name}, captioned: ${data.caption}`;
  $("picture").setAttribute("aria-label", `Picture in ${rows} by ${columns} cells`);
  $("image").addEventListener("load", () => {
    [$("overlay").width, $("overlay").height] = [$("image").naturalWidth, $("image").naturalHeight];
    show();
  });
  tokens.forEach(({ text, p }, t) => {
    const word = make("button", { type: "button", "aria-label": `${text}, ${percent(p)} likely` }, text);
    word.style.setProperty("--likely", p);
    for (const kind of ["focus", "pointerenter", "click"]) {
      word.addEventListener(kind, () => change({ token: t, cell: null }));
    }
    $("caption").append(word);
  });
  $("caption").addEventListener("keydown", (event) => {
    const to = { ArrowLeft: state.token - 1, ArrowRight: state.token + 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    $("caption").children[to]?.focus();
  });
  for (const [name, title] of Object.entries(TITLES)) $("map").append(make("option", { value: name }, title));
  for (const head of numbers(heads + 1)) $("head").append(make("option", { value: head }, headName(head)));
  $("layer").max = layers;
  $("map").addEventListener("change", ({ target }) => change({ map: target.value }));
  $("head").addEventListener("change", ({ target }) => change({ head: Number(target.value) }));
  $("layer").addEventListener("input", ({ target }) => change({ layer: Number(target.value) }));
  $("heads").addEventListener("keydown", (event) => {
    const all = [...$("heads").querySelectorAll("button")];
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads - 1, ArrowDown: heads + 1 }[event.key];
    const next = all[all.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
  $("heads").style.gridTemplateColumns = `max-content repeat(${heads + 1}, minmax(2.2rem, 5.5rem))`;
  const meanLast = (count) => [...numbers(count + 1).slice(1), 0];
  for (const layer of meanLast(layers)) {
    $("heads").append(make("span", {}, layerName(layer)));
    for (const head of meanLast(heads)) {
      const canvas = make("canvas", { "aria-hidden": "true" });
      const button = make("button", { type: "button", value: `${layer} ${head}` }, canvas);
      button.addEventListener("click", () => change({ layer, head, map: "attention", cell: null }));
      $("heads").append(button);
    }
  }
  $("heads").append(...["head", ...meanLast(heads)].map((head) => make("span", {}, head || "mean")));
  $("picture").addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (cell !== state.cell) change({ cell });
  });
  $("picture").addEventListener("pointerleave", () => change({ cell: null }));
  $("picture").addEventListener("blur", () => change({ cell: null }));
  $("picture").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Escape") change({ cell: null });
    if (!step) return;
    event.preventDefault();
    const from = state.cell ?? widest(mapOf(state.token)).at;
    const within = (at, most) => Math.min(Math.max(at, 0), most - 1);
    const row = within(Math.floor(from / columns) + step[0], rows), column = within((from % columns) + step[1], columns);
    change({ cell: row * columns + column });
  });
  growTree();
}
begin();
