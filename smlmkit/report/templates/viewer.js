// Raw counts and reconstruction of one place, on a canvas. Positions in the picture are in its
// pixels, positions on the stage in CSS pixels.

const MOST_ZOOM = 48;
const KEY_STEP = 60;
const KEY_ZOOM = 1.4;
const GRIP = 10;

const dialog = document.getElementById("viewer");
const find = (selector) => dialog.querySelector(selector);
const canvas = find("canvas");
const pen = canvas.getContext("2d");
const divider = find("#divider");
const contrast = find("#contrast");
const shared = find("#shared");
const lifted = find("#lifted");
const readout = find(".readout");
const hint = readout.textContent;
const choices = [...dialog.querySelectorAll("[data-show]")];
const openers = [...document.querySelectorAll("[data-open]")];
const colours = readColours(dialog.dataset.colours);

let shown = null; // the acquisition: its facts, and the layers before and after
let view = { zoom: 1, x: 0, y: 0 }; // CSS pixels a pixel, and what lies in the middle of the stage
let isWaiting = false;

// From files to pixels

function readColours(digits) {
  const bytes = digits.match(/../g).map((pair) => parseInt(pair, 16));
  return Array.from({ length: 256 }, (_, i) => bytes.slice(3 * i, 3 * i + 3));
}

async function readLayer({ source, top, white }) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const sheet = document.createElement("canvas");
  sheet.width = image.naturalWidth;
  sheet.height = image.naturalHeight;
  const brush = sheet.getContext("2d", { willReadFrequently: true });
  brush.drawImage(image, 0, 0);
  const pixels = brush.getImageData(0, 0, sheet.width, sheet.height);
  const codes = Uint8Array.from({ length: pixels.data.length / 4 }, (_, i) => pixels.data[4 * i]);
  return { sheet, brush, pixels, codes, top, white };
}

const valueOf = (code, top) => top * (code / 255) ** 2;

function paint(layer, white) {
  const gamma = lifted.checked ? 0.5 : 1;
  const palette = Array.from({ length: 256 }, (_, code) => {
    const brightness = Math.min(1, valueOf(code, layer.top) / white) ** gamma;
    return colours[Math.round(255 * brightness)];
  });
  const { data } = layer.pixels;
  layer.codes.forEach((code, i) => data.set(palette[code], 4 * i));
  layer.brush.putImageData(layer.pixels, 0, 0);
}

function paintBoth() {
  const { before, after } = shown;
  const most = Math.max(before.white, after.white);
  const share = 2 ** -contrast.valueAsNumber;
  const whites = [before, after].map((layer) => share * (shared.checked ? most : layer.white));
  paint(before, whites[0]);
  paint(after, whites[1]);
  const [raw, dense] = whites.map(write);
  find(".white").textContent = `white: ${raw} raw, ${dense} reconstructed`;
  contrast.setAttribute("aria-valuetext", `${contrast.value} stops`);
  drawSoon();
}

// Drawing

function drawSoon() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    if (shown && dialog.open) draw();
  });
}

function draw() {
  const { clientWidth: width, clientHeight: height } = canvas;
  const density = window.devicePixelRatio;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const edge = (divider.valueAsNumber / 100) * width;
  pen.imageSmoothingEnabled = view.zoom * density < 1;
  pen.imageSmoothingQuality = "high";
  drawLayer(shown.before.sheet, 0, edge, density);
  drawLayer(shown.after.sheet, edge, width, density);
  showMarks(edge, width);
}

function drawLayer(sheet, left, right, density) {
  if (right <= left) return;
  const { x, y } = toStage(0, 0);
  pen.save();
  pen.scale(density, density);
  pen.beginPath();
  pen.rect(left, 0, right - left, canvas.clientHeight);
  pen.clip();
  pen.drawImage(sheet, x, y, sheet.width * view.zoom, sheet.height * view.zoom);
  pen.restore();
}

function showMarks(edge, width) {
  const share = divider.valueAsNumber;
  find(".divider").hidden = share <= 0 || share >= 100;
  find(".divider").style.left = `${edge}px`;
  find(".tag.left").hidden = edge < 110;
  find(".tag.right").hidden = width - edge < 130;
  for (const choice of choices) {
    const wanted = Number(choice.dataset.show);
    const isOn = wanted === 50 ? share > 0 && share < 100 : wanted === share;
    choice.setAttribute("aria-pressed", isOn);
  }
  const perPixel = shown.pixelSize / view.zoom;
  const length = roundLength(0.22 * width * perPixel);
  find(".scale i").style.width = `${length / perPixel}px`;
  find(".scale span").textContent = length >= 1000 ? `${length / 1000} µm` : `${length} nm`;
}

function roundLength(length) {
  const power = 10 ** Math.floor(Math.log10(length) + 1e-9);
  return [5, 2, 1].find((factor) => factor * power <= length) * power;
}

const write = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

// Where one looks

const toStage = (x, y) => ({
  x: canvas.clientWidth / 2 + (x - view.x) * view.zoom,
  y: canvas.clientHeight / 2 + (y - view.y) * view.zoom,
});

const toPicture = (x, y) => ({
  x: view.x + (x - canvas.clientWidth / 2) / view.zoom,
  y: view.y + (y - canvas.clientHeight / 2) / view.zoom,
});

function look(zoom, x, y) {
  const { width, height } = shown.before.sheet;
  const least = leastZoom();
  const held = Math.min(Math.max(zoom, least), Math.max(MOST_ZOOM, least));
  view = {
    zoom: held,
    x: hold(x, width, canvas.clientWidth / held),
    y: hold(y, height, canvas.clientHeight / held),
  };
  drawSoon();
}

function leastZoom() {
  const { width, height } = shown.before.sheet;
  return Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
}

// Keep the picture over the stage, or in its middle where it is smaller.
function hold(middle, side, visible) {
  if (visible >= side) return side / 2;
  return Math.min(Math.max(middle, visible / 2), side - visible / 2);
}

function showAll() {
  const { width, height } = shown.before.sheet;
  look(leastZoom(), width / 2, height / 2);
}

const move = (right, down) => look(view.zoom, view.x + right / view.zoom, view.y + down / view.zoom);

// Zoom so that what lies at a place of the stage stays there.
function zoomAt(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const fixed = toPicture(x, y);
  const least = leastZoom();
  const zoom = Math.min(Math.max(view.zoom * factor, least), Math.max(MOST_ZOOM, least));
  look(
    zoom,
    fixed.x - (x - canvas.clientWidth / 2) / zoom,
    fixed.y - (y - canvas.clientHeight / 2) / zoom,
  );
}

// Before and after

function divide(share) {
  divider.value = share;
  const text = share >= 100 ? "Raw counts" : share <= 0 ? "Reconstruction" : "Both";
  divider.setAttribute("aria-valuetext", text);
  find(".status").textContent = text;
  drawSoon();
}

const swap = () => divide(divider.valueAsNumber > 0 ? 0 : 100);

// Mouse, pen and fingers

const pointers = new Map();
let isDividing = false;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

canvas.addEventListener("pointerdown", (event) => {
  const { x } = place(event);
  const edge = (divider.valueAsNumber / 100) * canvas.clientWidth;
  isDividing = pointers.size === 0 && !find(".divider").hidden && Math.abs(x - edge) < GRIP;
  pointers.set(event.pointerId, place(event));
  canvas.setPointerCapture(event.pointerId);
});

canvas.addEventListener("pointermove", (event) => {
  if (!shown) return;
  const now = place(event);
  if (!pointers.has(event.pointerId)) return readAt(now);
  const before = grasp();
  pointers.set(event.pointerId, now);
  if (isDividing) return divide((100 * now.x) / canvas.clientWidth);
  const after = grasp();
  move(before.x - after.x, before.y - after.y);
  if (before.spread > 0) zoomAt(after.spread / before.spread, after.x, after.y);
});

for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    pointers.delete(event.pointerId);
    isDividing = false;
  });
}

canvas.addEventListener("pointerleave", () => (readout.textContent = hint));

// The middle of all fingers, and how far they are apart.
function grasp() {
  const all = [...pointers.values()];
  const x = all.reduce((sum, finger) => sum + finger.x, 0) / all.length;
  const y = all.reduce((sum, finger) => sum + finger.y, 0) / all.length;
  return { x, y, spread: Math.hypot(all[0].x - x, all[0].y - y) };
}

canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    if (!shown) return;
    const { x, y } = place(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0018; // browsers report pinches on a pad like this
    zoomAt(Math.exp(-speed * lines * event.deltaY), x, y);
  },
  { passive: false },
);

function readAt({ x, y }) {
  const { before, after, origin, pixelSize } = shown;
  const spot = toPicture(x, y);
  const [row, column] = [Math.floor(spot.y), Math.floor(spot.x)];
  const { width, height } = before.sheet;
  if (row < 0 || column < 0 || row >= height || column >= width) {
    readout.textContent = hint;
    return;
  }
  const at = row * width + column;
  const [codeBefore, codeAfter] = [before.codes[at], after.codes[at]];
  const count = Math.round(valueOf(codeBefore, before.top));
  const density = write(valueOf(codeAfter, after.top));
  const [yText, xText] = [spot.y, spot.x].map((pixels, axis) =>
    ((origin[axis] + pixels * pixelSize) / 1000).toFixed(3),
  );
  readout.textContent =
    `x ${xText} µm, y ${yText} µm: ${atLeast(codeBefore)}${count} raw, ` +
    `${atLeast(codeAfter)}${density} reconstructed`;
}

const atLeast = (code) => (code === 255 ? "≥ " : "");

// Keys

const ACTIONS = {
  in: () => zoomAt(KEY_ZOOM),
  out: () => zoomAt(1 / KEY_ZOOM),
  fit: showAll,
  swap,
  next: () => step(1),
  previous: () => step(-1),
  close: () => dialog.close(),
  left: () => move(-KEY_STEP, 0),
  right: () => move(KEY_STEP, 0),
  up: () => move(0, -KEY_STEP),
  down: () => move(0, KEY_STEP),
};

const ACTION_OF_KEY = {
  "+": "in",
  "=": "in",
  "-": "out",
  _: "out",
  0: "fit",
  x: "swap",
  X: "swap",
  PageDown: "next",
  PageUp: "previous",
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
};

dialog.addEventListener("keydown", (event) => {
  const action = ACTION_OF_KEY[event.key];
  const isOurs = action && !event.ctrlKey && !event.metaKey && !event.altKey;
  // A slider has arrows and page keys of its own.
  const isSliders = event.target.type === "range" && event.key.length > 1;
  if (!isOurs || isSliders || !shown) return;
  event.preventDefault();
  ACTIONS[action]();
});

// Opening

async function open(opener) {
  const number = opener.dataset.open;
  const facts = JSON.parse(document.getElementById(`crop-${number}`).textContent);
  shown = null;
  dialog.dataset.number = number;
  find("#viewer-title").textContent = facts.name;
  find(".about").replaceChildren(...aboutOf(number));
  if (!dialog.open) dialog.showModal();
  canvas.focus();
  const [before, after] = await Promise.all([readLayer(facts.before), readLayer(facts.after)]);
  if (dialog.dataset.number !== number) return; // another was chosen meanwhile
  shown = { before, after, origin: facts.origin, pixelSize: facts.pixel_size };
  paintBoth();
  divide(divider.valueAsNumber);
  showAll();
}

function aboutOf(number) {
  const curves = document.getElementById(`curves-${number}`);
  const facts = document.getElementById(`about-${number}`).content;
  return [...(curves ? curves.cloneNode(true).childNodes : []), facts.cloneNode(true)];
}

function step(by) {
  const at = openers.findIndex((opener) => opener.dataset.open === dialog.dataset.number);
  open(openers[(at + by + openers.length) % openers.length]);
}

for (const opener of openers) opener.addEventListener("click", () => open(opener));
for (const choice of choices) {
  choice.addEventListener("click", () => divide(Number(choice.dataset.show)));
}
for (const button of dialog.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => shown && ACTIONS[button.dataset.do]());
}
divider.addEventListener("input", () => divide(divider.valueAsNumber));
for (const control of [contrast, shared, lifted]) {
  control.addEventListener("input", () => shown && paintBoth());
}
new ResizeObserver(() => shown && look(view.zoom, view.x, view.y)).observe(canvas);
