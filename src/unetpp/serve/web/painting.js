// Correcting: pens for each class, an eraser for what was painted, and objects taken away at a click.

import { post } from "./api.js";
import { $, make, press, replace } from "./dom.js";
import { Drawing, SUGGESTED } from "./drawing.js";
import { startPaintingKeys } from "./painting_keys.js";
import { startSuggesting } from "./suggesting.js";

const REMOVED = "#7b8794";

export function startPainting(app, view) {
  const { volume } = view;
  const drawing = new Drawing(volume);
  const tools = [...document.querySelectorAll("[data-tool]")];
  let isOn = false;
  let isDirty = false;
  let tool = "brush";
  let pen = 1;
  let isDrawing = false;

  function fillPens() {
    const pens = [{ index: 0, name: "Background", color: REMOVED }, ...view.classes];
    const last = Math.min(1, pens.length - 1);
    replace(
      $("pens"),
      make("legend", {}, "Paint as"),
      ...pens.map((each, number) => {
        const choice = make("input", { type: "radio", name: "pen", value: each.index, checked: number === last, onchange: () => choosePen(each.index + 1) });
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = each.color;
        return make("label", {}, choice, swatch, each.name);
      }),
    );
    pen = pens[last].index + 1;
    return pens;
  }

  /** The colors of the pens, and after them those of what is suggested: paler. */
  function colorsOf(pens) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const [first, paleness] of [[1, 0], [1 + SUGGESTED, 0.6]]) {
      for (const { index, color, name } of pens) {
        table.I.push(index + first);
        [1, 3, 5].forEach((start, place) => {
          const value = parseInt(color.slice(start, start + 2), 16);
          table["RGB"[place]].push(Math.round(value + paleness * (255 - value)));
        });
        table.A.push(255);
        table.labels.push(name);
      }
    }
    return table;
  }

  function choosePen(value) {
    pen = value;
    applyTool();
  }

  function chooseTool(name) {
    tool = name;
    press(tools, tools.find((each) => each.dataset.tool === name));
    applyTool();
  }

  function applyTool() {
    const size = Number($("pen-size").value);
    if (tool === "brush") drawing.setPen(pen, false, size);
    if (tool === "fill") drawing.setPen(pen, true, size);
    if (tool === "eraser") drawing.setPen(0, false, size);
    if (tool === "remove" || tool === "move") drawing.rest();
    const hints = { remove: "Click on an object that is none.", fill: "Draw around an area: it is filled.", eraser: "Takes back what you painted." };
    $("paint-state").textContent = hints[tool] ?? "";
    $("keys").hidden = tool === "move";
  }

  function start() {
    isOn = true;
    isDirty = false;
    $("paint-off").hidden = true;
    $("paint-on").hidden = false;
    $("between").hidden = view.job.view.kind !== "volume";
    const pens = fillPens();
    drawing.start(colorsOf(pens));
    $("suggests-choice").hidden = pens.length >= SUGGESTED;
    chooseTool("brush");
    $("canvas").focus({ preventScroll: true });
  }

  function stop() {
    suggesting.drop();
    if (isOn) volume.closeDrawing();
    const hadFocus = $("paint-on").contains(document.activeElement);
    isOn = false;
    isDirty = false;
    $("paint-off").hidden = false;
    $("paint-on").hidden = true;
    if (hadFocus) $("paint-start").focus({ preventScroll: true });
  }

  /** What was painted, with the place of the grid that it was painted on. */
  function readStrokes() {
    const { job, box } = view;
    const affine = job.view.affine.map((row) => [...row]);
    if (box) {
      for (const row of [0, 1, 2]) affine[row][3] += box.reduce((sum, [first], axis) => sum + job.view.affine[row][axis] * first, 0);
    }
    return { size: view.size, shape: [...volume.shape], affine, runs: drawing.readRuns() };
  }

  async function save() {
    const { job } = view;
    const strokes = readStrokes();
    if (!strokes.runs.length) {
      $("paint-state").textContent = "Nothing is painted yet.";
      return;
    }
    const unpainted = $("unsaid").checked ? "unsaid" : "predicted";
    const saved = await post(`/v1/jobs/${job.id}/corrections`, { ...strokes, unpainted });
    stop();
    app.chooseModel(job.model);
    app.learning.saved(saved);
  }

  const suggesting = startSuggesting(view, drawing, readStrokes);
  volume.painted = () => { isDirty = isOn; };
  $("canvas").addEventListener("pointerdown", () => { isDrawing = isOn && ["brush", "fill", "eraser"].includes(tool); });
  window.addEventListener("pointerup", () => {
    if (isDrawing) setTimeout(() => isOn && suggesting.ask(), 80); // after NiiVue has ended the stroke
    isDrawing = false;
  });
  function removeObject(place) {
    const count = drawing.paintObject(place, 1);
    $("paint-state").textContent = count ? `An object of ${count.toLocaleString("en")} voxels was taken away.` : "There is no object.";
    isDirty ||= count > 0;
  }

  $("canvas").addEventListener("pointerup", () => {
    if (!isOn || tool !== "remove") return;
    setTimeout(() => removeObject(volume.place.map(Math.round)), 50); // after NiiVue has moved its crosshair there
  });
  /** Whether the arrow keys move the cross, not the image. */
  function hasKeys() {
    return isOn && tool !== "move";
  }

  startPaintingKeys({
    volume,
    isOn: hasKeys,
    paintAt(place) {
      if (tool === "remove") return removeObject(place);
      drawing.paintDisc(place, tool === "eraser" ? 0 : pen, Number($("pen-size").value));
      isDirty = true;
      return suggesting.ask();
    },
  });
  for (const button of tools) button.onclick = () => chooseTool(button.dataset.tool);
  $("pen-size").oninput = () => {
    $("pen-size-text").value = $("pen-size").value;
    applyTool();
  };
  const undo = () => {
    suggesting.drop();
    drawing.undo();
    drawing.dropSuggestion(); // one that an earlier state of the drawing had
  };
  $("undo").onclick = undo;
  $("between").onclick = () => app.run(async () => drawing.fillBetween());
  $("paint-start").onclick = () => app.run(async () => start());
  $("paint-stop").onclick = stop;
  $("save").onclick = () => app.run(save);
  document.addEventListener("keydown", (event) => {
    if (!isOn || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range") return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      undo();
    }
    if (suggesting.isOffered() && event.key === "Enter" && event.target.tagName !== "BUTTON") suggesting.take();
    if (suggesting.isOffered() && event.key === "Escape") suggesting.drop();
  });
  return { stop, isOn: () => isOn, isDirty: () => isDirty, hasKeys };
}
