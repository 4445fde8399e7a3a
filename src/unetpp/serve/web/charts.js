// Curves of a training, by uPlot.

import uPlot from "/web/vendor/uplot.js";
import { make, replace } from "./dom.js";

const colorOf = (number) => getComputedStyle(document.documentElement).getPropertyValue(`--color-${number % 8}`).trim();
const inkOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function draw(figure, title, xs, series) {
  const axis = { stroke: inkOf("muted"), grid: { stroke: inkOf("line") }, ticks: { stroke: inkOf("line") } };
  const width = Math.max(260, figure.clientWidth);
  const options = {
    width,
    height: 200,
    scales: { x: { time: false } },
    axes: [{ ...axis, label: "step", labelSize: 18, size: 34 }, { ...axis, size: 52 }],
    series: [{ label: "step" }, ...series.map(({ name }, number) => ({ label: name, stroke: colorOf(number), width: 2, spanGaps: true, value: (_, value) => (value === null || value === undefined ? "-" : value.toFixed(4)) }))],
    cursor: { drag: { x: false, y: false } },
  };
  const place = make("div");
  replace(figure, make("figcaption", {}, title), place);
  return new uPlot(options, [xs, ...series.map(({ values }) => values)], place);
}

const drawn = new Map(); // container -> fold
let waiting = null;

/** Draw all curves anew in the present width and colors. */
function redraw() {
  clearTimeout(waiting);
  waiting = setTimeout(() => drawn.forEach((fold, container) => drawCurves(container, fold)), 150);
}
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

/** Draw the loss and the Dice of each size of a fold into a container. */
export function drawCurves(container, fold) {
  if (!fold.losses.length) return;
  drawn.set(container, fold);
  const figures = [...container.querySelectorAll("figure")];
  while (figures.length < 2) {
    const figure = make("figure");
    container.append(figure);
    figures.push(figure);
  }
  const [loss, dice] = figures;
  draw(loss, "Loss", fold.losses.map(([step]) => step), [{ name: "training loss", values: fold.losses.map(([, value]) => value) }]);
  const sizes = [...new Set(fold.validations.flatMap((each) => Object.keys(each.sizes)))];
  const series = sizes.map((size) => ({ name: `Dice at ${size}`, values: fold.validations.map((each) => each.sizes[size] ?? null) }));
  if (fold.validations.some((each) => each.train_dice !== null)) series.push({ name: "on training cases", values: fold.validations.map((each) => each.train_dice) });
  draw(dice, "Validation Dice", fold.validations.map((each) => each.step), series.length ? series : [{ name: "Dice", values: [] }]);
}

export function clearCurves(container) {
  drawn.delete(container);
  replace(container);
}

/** Show numbers as a list of terms. */
export function showNumbers(list, numbers) {
  replace(list, ...numbers.filter(([, value]) => value !== "" && value !== "-").map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}
