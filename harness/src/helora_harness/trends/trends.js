// Filters the table by the choices, and draws one metric of the lines that are left over commits.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("choices");
const chart = document.getElementById("chart");
const status = document.querySelector("[role=status]");
const rows = [...document.querySelectorAll("#cells tbody tr")];
const metricOf = document.getElementById("metric");
const selects = [...form.querySelectorAll("select")].filter((select) => select !== metricOf);
const MOST = 8;
const WIDTH = 1200, HEIGHT = 380, LEFT = 70, TOP = 20, BOTTOM = 316;
const asked = new URLSearchParams(location.hash.slice(1));
/** Lines that a click added or took away; null: the first of those shown. */
let picked = null;

const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const lineOf = (row) => data.lines[Number(row.id.slice(5))];
const fits = (row, but) => selects.every((s) => s === but || !s.value || row.dataset[s.name] === s.value);

const shortNumber = (value) => {
  if (Math.abs(value) >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toPrecision(3).replace(/\.?0+$/, "");
};
const SIZES = ["bytes", "KiB", "MiB", "GiB"];
const scaledBy = (unit, most) => {
  if (!unit.startsWith("bytes")) return [1, unit];
  const power = most < 1 ? 0 : Math.min(Math.floor(Math.log2(most) / 10), 3);
  return [1024 ** power, unit.replace("bytes", SIZES[power])];
};

function ticks(most, about = 5) {
  let step = 10 ** Math.floor(Math.log10(most / about || 1));
  step *= [1, 2, 2.5, 5, 10].find((nice) => nice * step * about >= most * 0.999) ?? 10;
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => i * step);
}

function draw(shown) {
  const name = metricOf.value;
  const [label, unit, better] = data.metrics[name];
  const lines = shown.map((row, colour) => ({
    row, colour, name: lineOf(row).name,
    points: lineOf(row).points.filter(([, values]) => name in values),
  })).filter((line) => line.points.length);
  for (const row of rows) row.className = row.className.replace(/\bdrawn s\d\b/, "").trim();
  const commits = [...new Set(lines.flatMap((line) => line.points.map(([at]) => at)))].sort((a, b) => a - b);
  const most = Math.max(...lines.flatMap((line) => line.points.map(([, values]) => values[name])), 0);
  if (!lines.length) { chart.querySelector(".drawn").innerHTML = ""; return; }
  const [divisor, words] = scaledBy(unit, most);
  const marks = ticks(most / divisor || 1);
  const right = WIDTH - 30;
  const x = (at) => commits.length === 1 ? (LEFT + right) / 2 : LEFT + 20 + (commits.indexOf(at) / (commits.length - 1)) * (right - LEFT - 40);
  const y = (value) => BOTTOM - (value / divisor / marks.at(-1)) * (BOTTOM - TOP);
  const parts = [`<text x="${LEFT - 60}" y="12" class="axis">${escaped(words || "count")}${better === "unknown" ? "" : `, ${better} is better`}</text>`];
  for (const mark of marks) {
    const at = y(mark * divisor);
    parts.push(`<line x1="${LEFT}" y1="${at}" x2="${right}" y2="${at}" class="grid"/><text x="${LEFT - 8}" y="${at + 4}" text-anchor="end">${shortNumber(mark)}</text>`);
  }
  const every = Math.max(1, Math.ceil(commits.length / 9));
  for (let i = commits.length - 1; i >= 0; i -= every) {
    const [hash, date] = data.commits[commits[i]];
    parts.push(`<text x="${x(commits[i])}" y="${BOTTOM + 20}" class="hash" text-anchor="middle">${hash}</text><text x="${x(commits[i])}" y="${BOTTOM + 36}" class="faint" text-anchor="middle">${date}</text>`);
  }
  const meant = data.meant.filter(([at]) => commits.includes(at));
  meant.forEach(([at], i) => parts.push(`<line x1="${x(at)}" y1="${TOP}" x2="${x(at)}" y2="${BOTTOM}" class="meant"/><text x="${x(at) + 3}" y="${TOP + 9}" class="why">${i + 1}</text>`));
  chart.querySelector(".meant").innerHTML = meant.map(([at, text]) => `<li><code>${data.commits[at][0]}</code> ${escaped(text)}</li>`).join("");
  for (const line of lines) {
    line.row.classList.add("drawn", `s${line.colour}`);
    let path = "";
    for (const [i, [at, values, broken]] of line.points.entries()) path += `${i && !broken ? "L" : "M"}${x(at)},${y(values[name])}`;
    parts.push(`<path d="${path}" class="line s${line.colour}"/>`);
    for (const [i, [at, values, broken]] of line.points.entries()) {
      const dull = i > 0 && i < line.points.length - 1 && !broken &&
        line.points[i - 1][1][name] === values[name] && line.points[i + 1][1][name] === values[name];
      if (dull) continue;
      const [hash, date, subject] = data.commits[at];
      const [by, of] = scaledBy(unit, values[name]);
      const tip = `${line.name}\n${shortNumber(values[name] / by)} ${of}\n${hash} ${date} ${subject}${broken ? `\nnot comparable with the value before: ${broken}` : ""}`;
      parts.push(`<g class="point"><circle cx="${x(at)}" cy="${y(values[name])}" r="11"/><circle cx="${x(at)}" cy="${y(values[name])}" r="4" class="mark s${line.colour}${broken ? " hollow" : ""}" style="fill:${broken ? "var(--page)" : "var(--c)"}"/><title>${escaped(tip)}</title></g>`);
    }
  }
  const legend = lines.map((line) => `<li class="s${line.colour}"><svg viewBox="-7 -7 14 14"><circle r="4" class="mark"/></svg>${escaped(line.name)}</li>`).join("");
  chart.querySelector(".drawn").innerHTML =
    `<ul class="legend">${legend}</ul><div class="scroll"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(label)} over commits">${parts.join("")}</svg></div>`;
}

function show(changed) {
  // A choice that leaves nothing gives way: the other choices follow the last one that was made.
  const moved = [];
  while (!rows.some((row) => fits(row))) {
    const other = selects.find((s) => s !== changed && s.value && rows.some((row) => fits(row, s))) ??
      selects.find((s) => s !== changed && s.value && !moved.includes(s));
    if (!other) break;
    const candidate = rows.find((row) => fits(row, other)) ?? rows.find((row) => !changed || row.dataset[changed.name] === changed.value);
    other.value = other.options[0].value === "" ? "" : candidate?.dataset[other.name] ?? other.options[0].value;
    moved.push(other);
  }
  status.textContent = moved.length ? `Nothing was measured for that choice together: ${moved.map((s) => `${s.name} is now ${s.value || "all"}`).join(", ")}.` : "";
  const shown = rows.filter((row) => fits(row));
  for (const row of rows) row.hidden = !fits(row);
  const names = Object.keys(data.metrics).filter((name) => shown.some((row) => lineOf(row).points.some(([, values]) => name in values)));
  const kept = names.includes(metricOf.value) ? metricOf.value : names.includes(asked.get("metric")) ? asked.get("metric") : names[0];
  metricOf.innerHTML = names.map((name) => `<option value="${name}">${escaped(`${data.metrics[name][0]}${data.metrics[name][1] ? `, ${data.metrics[name][1]}` : ""}`)}</option>`).join("");
  metricOf.value = kept ?? "";
  chart.hidden = !names.length;
  if (names.length) draw(picked ? rows.filter((row) => picked.has(row) && !row.hidden).slice(0, MOST) : shown.slice(0, MOST));
  if (changed) {
    for (const s of [...selects, metricOf]) asked.set(s.name, s.value);
    window.history.replaceState(null, "", `#${asked}`);
  }
}

function pick(row) {
  picked ??= new Set(rows.filter((one) => !one.hidden).slice(0, MOST));
  if (!picked.delete(row)) picked.add(row);
  show(null);
}

for (const select of selects) {
  const wanted = asked.get(select.name);
  if (wanted !== null && [...select.options].some((option) => option.value === wanted)) select.value = wanted;
  select.addEventListener("change", () => { picked = null; show(select); });
}
metricOf.addEventListener("change", () => show(metricOf));
for (const row of rows) {
  row.addEventListener("click", () => pick(row));
  row.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(row); } });
}
show(null);
