"use strict";

// The theme is set before anything is shown, the rest when the page has been read.

const root = document.documentElement;
const THEME = "dafw-theme";

/** localStorage, or nothing where the browser forbids it to pages from disk. */
function remembered() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// ---- dark and light

function isDark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme(button) {
  button.setAttribute("aria-pressed", String(isDark()));
  repaint();
}

function startTheme() {
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered()?.setItem(THEME, root.dataset.theme);
    showTheme(button);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showTheme(button));
  showTheme(button);
}

// ---- charts: made when they come into view, by a library that is unpacked when the first one does

const NARROW = 600; // pixels of a chart below which its legend stands under it
let unpacking = null;

async function unpack() {
  const packed = atob(document.getElementById("plotly").textContent.trim());
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

const library = () => (unpacking ??= unpack());

/** The page's own colours as a template of plotly's. */
function paint() {
  const ink = getComputedStyle(document.body).color;
  const probe = document.createElement("span");
  probe.className = "rule";
  document.body.append(probe);
  const rule = getComputedStyle(probe).color;
  probe.remove();
  const axis = { gridcolor: rule, linecolor: ink, tickcolor: ink, zeroline: false, showline: true, ticks: "outside" };
  const clear = "rgba(0,0,0,0)";
  return {
    layout: {
      paper_bgcolor: clear,
      plot_bgcolor: clear,
      font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
      xaxis: axis,
      yaxis: axis,
      hoverlabel: { align: "left" },
    },
    data: { scatter: [{ error_y: { color: ink } }] },
  };
}

function draw(chart) {
  const drawing = chart.querySelector(".drawing");
  if (drawing.dataset.drawn) return;
  drawing.dataset.drawn = "yes";
  const figure = JSON.parse(chart.querySelector("script").textContent);
  figure.layout.template = paint();
  if (drawing.clientWidth < NARROW && figure.data.length > 1 && figure.layout.showlegend !== false) {
    figure.layout.legend = { orientation: "h", yref: "container", y: 0, yanchor: "bottom" };
    const room = 20 * figure.data.length;
    figure.layout.height += room;
    figure.layout.margin.b += room;
  }
  Plotly.newPlot(drawing, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}

function repaint() {
  for (const drawing of all(".drawing[data-drawn]")) Plotly.relayout(drawing, { template: paint() });
}

function startCharts() {
  const seen = new IntersectionObserver(
    async (entries) => {
      const charts = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
      if (!charts.length) return;
      await library();
      for (const chart of charts) {
        seen.unobserve(chart);
        draw(chart);
      }
    },
    { rootMargin: "300px" },
  );
  all(".chart").forEach((chart) => seen.observe(chart));
}

// ---- filter

const texts = new WeakMap();

/** What the words of the filter are looked for in: a run's line, or a row with the pair and setting it belongs to. */
function textOf(element) {
  if (!texts.has(element)) {
    const shown = element.matches("details") ? element.querySelector("summary") : element;
    const { pair = "", method = "", setting = "" } = element.dataset;
    texts.set(element, [shown.textContent, pair, method, setting].join(" ").toLowerCase());
  }
  return texts.get(element);
}

function fits(element, wanted) {
  const { pair, method, setting, stale } = element.dataset;
  if (wanted.fresh && stale !== undefined) return false;
  if (wanted.pair && pair !== undefined && pair !== wanted.pair) return false;
  if (wanted.method && method !== undefined && method !== wanted.method) return false;
  if (wanted.setting && setting !== undefined && setting !== wanted.setting) return false;
  return wanted.words.every((word) => textOf(element).includes(word));
}

const FILTERED = "tr[data-pair], tr[data-method], tr[data-text], details.run, section[data-method]";

function filter(form) {
  const given = new FormData(form);
  const wanted = {
    words: given.get("text").toLowerCase().split(/\s+/).filter(Boolean),
    pair: given.get("pair"),
    method: given.get("method"),
    setting: given.get("setting"),
    fresh: given.has("fresh"),
  };
  for (const element of all(FILTERED)) element.hidden = !fits(element, wanted);
  for (const group of all("section.group:not([data-method])")) {
    group.hidden = !group.querySelector("tbody tr[data-method]:not([hidden])");
  }
  const runs = all("details.run");
  const shown = runs.filter((run) => !run.hidden).length;
  document.getElementById("shown").textContent = `${shown} of ${runs.length} runs shown`;
}

function startFilter() {
  const form = document.getElementById("filter");
  form.addEventListener("input", () => filter(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => filter(form))); // the fields are empty only afterwards
  filter(form); // a reloaded page may keep what was typed
}

// ---- sort

/** The value of a cell: a number where all of its column are, else text; null where there is none. */
function columnValues(rows, column) {
  const raw = rows.map((row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim());
  const numeric = raw.every((value) => value === "" || Number.isFinite(Number(value)));
  return raw.map((value) => (value === "" ? null : numeric ? Number(value) : value));
}

function compare(first, second) {
  return typeof first === "number" ? first - second : first.localeCompare(second, undefined, { numeric: true });
}

function sort(button) {
  const heading = button.closest("th");
  const now = heading.getAttribute("aria-sort");
  const order = now === "none" ? button.dataset.first : now === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const table = heading.closest("table");
  for (const other of all("th[aria-sort]", table)) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const values = new Map(columnValues(rows, heading.cellIndex).map((value, place) => [rows[place], value]));
  rows.sort((first, second) => {
    const [a, b] = [values.get(first), values.get(second)];
    if (a === null || b === null) return (a === null) - (b === null); // what does not exist stays last
    return sign * compare(a, b);
  });
  body.append(...rows);
}

// ---- runs: deep links, opening, copying, printing

function openLinked() {
  const linked = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!linked?.matches("details")) return;
  if (linked.hidden) document.getElementById("filter").reset();
  linked.hidden = false;
  linked.open = true;
  linked.scrollIntoView();
  linked.querySelector("summary").focus({ preventScroll: true });
}

async function copy(button) {
  const command = button.parentElement.querySelector("pre");
  getSelection().selectAllChildren(command); // where the clipboard is closed to the page, the user can still copy
  try {
    await navigator.clipboard.writeText(command.textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 2500);
}

let printing = null;

/** On paper all is light, every chart drawn and every table open; of the runs those that are open. */
function startPrinting() {
  if (printing) return;
  const closed = all("details[data-print]:not([open])");
  printing = { theme: root.dataset.theme, closed };
  closed.forEach((details) => (details.open = true));
  root.dataset.theme = "light";
  if (window.Plotly) all(".chart").forEach(draw);
  repaint();
}

function endPrinting() {
  if (!printing) return;
  printing.closed.forEach((details) => (details.open = false));
  if (printing.theme) root.dataset.theme = printing.theme;
  else delete root.dataset.theme;
  printing = null;
  repaint();
}

function start() {
  startCharts();
  startTheme();
  startFilter();
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches(".sort")) sort(button);
    if (button?.matches(".copy")) copy(button);
  });
  const runs = (open) => all("details.run:not([hidden])").forEach((run) => (run.open = open));
  document.getElementById("open-runs").addEventListener("click", () => runs(true));
  document.getElementById("close-runs").addEventListener("click", () => runs(false));
  addEventListener("hashchange", openLinked);
  addEventListener("beforeprint", startPrinting);
  addEventListener("afterprint", endPrinting);
  matchMedia("print").addEventListener("change", (event) => (event.matches ? startPrinting() : endPrinting()));
  openLinked();
  (window.requestIdleCallback ?? setTimeout)(library); // at hand for paper, where nothing can be waited for
}

const chosen = remembered()?.getItem(THEME);
if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
document.addEventListener("DOMContentLoaded", start);
