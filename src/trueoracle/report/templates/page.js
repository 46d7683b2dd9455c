// What the page does beyond standing there: walk through a cell's masks by pointer or slider, and filter cells.
"use strict";

const SITES_NAMED = 8; // of a mask, where it is described
const tip = document.getElementById("tip");

// --- Masks ------------------------------------------------------------------------------------------------------

/** Where a value lies on a scale, in pixels of its picture. */
function place(scale, value) {
  const [v, low, high] = scale.log ? [value, scale.low, scale.high].map(Math.log) : [value, scale.low, scale.high];
  return scale.start + ((v - low) / (high - low)) * (scale.end - scale.start);
}

/** The pruned units of a mask, site -> numbers. Digits are hexadecimal, four units each, lowest unit first. */
function unitsOf(sites, digits) {
  let at = 0;
  return sites.map(([site, units]) => {
    const pruned = [];
    for (let unit = 0; unit < units; unit++) {
      if ((parseInt(digits[at + (unit >> 2)], 16) >> (unit & 3)) & 1) pruned.push(unit);
    }
    at += Math.ceil(units / 4);
    return [site, pruned];
  });
}

/** A mask in words: its number, what it prunes, what it is worth. */
function describe(data, names, index) {
  const pruned = data.pruned
    ? unitsOf(data.sites, data.pruned[index]).map(([site, units]) => `${site} without ${units.join(", ")}`)
    : data.sites.map(([site, units, gone]) => `${site} without ${gone} of ${units} ${data.of}`);
  if (pruned.length > SITES_NAMED) pruned.splice(SITES_NAMED, Infinity, `and so on at ${pruned.length - SITES_NAMED} more sites`);
  const repeats = data.repeats ? ` (${data.repeats[index].join(", ")})` : "";
  return [
    `mask ${data.masks[index]}${index === data.oracle ? ", the oracle mask" : ""}`,
    ...pruned,
    `${names.x}: ${data.x[index]}`,
    `${names.y}: ${data.y[index]}${repeats}`,
  ].join("\n");
}

/** Lets one choose a mask of a cell by pointing at it or by the slider. */
function explore(article) {
  const figure = article.querySelector(".masks-figure");
  const svg = figure.querySelector("svg.scatter");
  const ring = svg.querySelector(".chosen");
  const slider = figure.querySelector("input");
  if (!slider) return; // there are too many masks to walk through
  const output = figure.querySelector("output");
  const paths = article.querySelectorAll(".chosen-curve");
  const names = document.body.dataset;
  let data = null;

  /** The cell's data, read when it is first asked for. */
  function read() {
    if (data) return;
    data = JSON.parse(article.querySelector("script.data").textContent);
    data.px = data.x.map((value) => place(data.frame.x, value));
    data.py = data.y.map((value) => place(data.frame.y, value));
    data.order = data.x.map((_, index) => index).sort((a, b) => data.x[a] - data.x[b]);
    data.step = []; // mask -> its place in the order
    data.order.forEach((index, step) => (data.step[index] = step));
  }

  function choose(index) {
    ring.setAttribute("cx", data.px[index]);
    ring.setAttribute("cy", data.py[index]);
    ring.removeAttribute("hidden");
    slider.value = data.step[index];
    const words = describe(data, names, index);
    slider.setAttribute("aria-valuetext", words.replaceAll("\n", "; "));
    output.textContent = words.split("\n")[0];
    showTip(words);
    (data.curves || []).forEach((panel, which) => {
      const points = panel.values[index].map((value, at) =>
        `${place(panel.across, panel.epochs[at]).toFixed(1)} ${place(panel.up, value).toFixed(1)}`);
      paths[which].setAttribute("d", "M" + points.join("L"));
    });
  }

  function showTip(words) {
    tip.textContent = words;
    tip.hidden = false;
    const at = ring.getBoundingClientRect();
    const left = at.right + tip.offsetWidth + 12 < document.documentElement.clientWidth ? at.right + 8 : at.left - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(4, left) + scrollX}px`;
    tip.style.top = `${Math.max(4, at.top - tip.offsetHeight / 2) + scrollY}px`;
  }

  function nearest(event) {
    const matrix = svg.getScreenCTM().inverse();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    let best = -1;
    let least = 24 ** 2; // farther away nothing is meant
    for (let index = 0; index < data.px.length; index++) {
      const distance = (data.px[index] - x) ** 2 + (data.py[index] - y) ** 2;
      if (distance < least) [best, least] = [index, distance];
    }
    return best;
  }

  function point(event) {
    read();
    const index = nearest(event);
    if (index >= 0) choose(index);
    else tip.hidden = true;
  }

  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => (tip.hidden = true));
  slider.addEventListener("input", () => (read(), choose(data.order[slider.value])));
  slider.addEventListener("focus", () => (read(), choose(data.order[slider.value])));
  slider.addEventListener("blur", () => (tip.hidden = true));
}

document.querySelectorAll("article.cell").forEach(explore);
document.addEventListener("replaced", (event) => event.target.querySelectorAll("article.cell").forEach(explore));
document.addEventListener("keydown", (event) => event.key === "Escape" && (tip.hidden = true));

// --- Filter -----------------------------------------------------------------------------------------------------

const filter = document.getElementById("filter");
if (filter) {
  const cells = [...document.querySelectorAll("article.cell")];
  const [sites, ratio] = filter.querySelectorAll("select");

  function show() {
    for (const cell of cells) {
      cell.hidden = (sites.value && cell.dataset.sites !== sites.value) || (ratio.value && cell.dataset.ratio !== ratio.value);
    }
    const shown = cells.filter((cell) => !cell.hidden).length;
    document.getElementById("filter-count").textContent = `${shown} of ${cells.length} cells shown`;
  }

  /** A link to a cell that the filter hides shows all cells again. */
  function reveal() {
    const cell = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!cell || !cell.hidden) return;
    sites.value = ratio.value = "";
    show();
    cell.scrollIntoView();
  }

  filter.addEventListener("change", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", reveal);
  show();
}

// --- Print ------------------------------------------------------------------------------------------------------

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
