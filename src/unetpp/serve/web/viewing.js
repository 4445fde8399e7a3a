// The result of one job: the viewer, the size of the network, the layers, and what can be taken.

import { getJson } from "./api.js";
import { $, formatDice, formatNumber, make, press, replace, say } from "./dom.js";
import { startComparing } from "./comparing.js";
import { startMoving } from "./moving.js";
import { startPainting } from "./painting.js";
import { TileView } from "./tile_view.js";
import { VolumeView } from "./volume_view.js";

const CLOSE_FLAT = 1024;
const CLOSE_VOLUME = 160;

export function startViewing(app) {
  const volume = new VolumeView($("canvas"));
  const tiles = new TileView($("tiles"));
  const view = { volume, tiles, job: null, box: null, classes: [], size: null, channel: 0, window: null };
  const isTiled = () => view.job?.view.kind === "large image" && !view.box;
  const painting = startPainting(app, view);
  const mayLeave = () => !painting.isDirty() || confirm("What you painted is not saved. Leave it?");

  const query = (size) => {
    const parts = [`size=${encodeURIComponent(size)}`, `step=${view.box ? 1 : view.job.view.step}`];
    if (view.box) parts.push(`box=${view.box.flat().join(",")}`);
    return parts.join("&");
  };
  const imagePath = () => `/v1/jobs/${view.job.id}/view/image?${query(view.size)}&channel=${view.channel}`;
  const comparing = startComparing(app, view, { isTiled, query, imagePath });
  const shown = () => [isTiled() ? tiles : volume, ...comparing.shown()];

  async function load() {
    const { job } = view;
    $("loading").hidden = false;
    $("tiles").hidden = !isTiled();
    $("canvas").hidden = isTiled();
    try {
      await measureWindow();
      if (job !== view.job) return;
      if (isTiled()) await tiles.load(job, view.channel, view.window);
      else {
        const isLast = await volume.load({
          image: imagePath(),
          labels: job.sizes.map(({ size }) => ({ size, path: `/v1/jobs/${job.id}/view/labels?${query(size)}` })),
          isFlat: job.view.kind !== "volume",
          isColor: job.view.is_color,
          window: view.window,
          classes: view.classes,
        });
        if (!isLast) return;
        if (view.size !== job.sizes.at(-1).size) await volume.showSize(view.size);
      }
      if (job !== view.job) return;
      applyLayers();
      await comparing.reload();
    } finally {
      if (job === view.job) $("loading").hidden = true;
    }
  }

  /** Take the window of the channel that is shown, and let the sliders reach beyond it. */
  async function measureWindow() {
    const { job, channel } = view;
    const found = job.view.is_color ? [0, 255] : await getJson(`/v1/jobs/${job.id}/view/window?channel=${channel}`);
    if (job !== view.job || channel !== view.channel) return; // a person has chosen another one meanwhile
    view.window = found;
    const span = found[1] - found[0];
    ["low", "high"].forEach((id, number) => {
      Object.assign($(id), { min: found[0] - span / 2, max: found[1] + span, step: span / 200 });
      $(id).value = found[number];
    });
  }

  /** Show another channel on the same grid; what is painted stays. */
  async function showChannel() {
    view.channel = Number($("channel").value);
    const { job, channel } = view;
    await measureWindow();
    if (job !== view.job || channel !== view.channel) return;
    const path = isTiled() ? null : imagePath();
    await Promise.all(shown().map((each) => each.showChannel({ channel, path, window: view.window })));
  }

  function setWindow() {
    view.window = [Number($("low").value), Number($("high").value)];
    for (const each of shown()) each.setWindow(...view.window);
  }

  function applyLayers() {
    const outlines = $("outlines").checked;
    const opacity = Number($("opacity").value);
    if (isTiled()) {
      tiles.setOpacity(opacity);
      tiles.showLabels(view.size, view.classes, outlines);
    } else {
      volume.setOpacity(opacity);
      volume.setOutlines(outlines);
    }
    comparing.applyLayers();
  }

  async function chooseSize(number) {
    const { job } = view;
    const found = job.sizes[number];
    view.size = found.size;
    const card = app.model(job.model)?.sizes.find((each) => each.size === found.size);
    const parts = [nameSize(found.size, card)];
    if (found.expected_dice !== null) parts.push(`expected Dice ${formatDice(found.expected_dice)}${found.expected_dice_error ? ` ± ${formatDice(found.expected_dice_error)}` : ""}`);
    else if (found.confidence !== null) parts.push(`confidence ${formatDice(found.confidence)}`);
    for (const each of found.classes) parts.push(`${each.name}: ${describeClass(each)}`);
    $("dial-text").textContent = parts.join("; ");
    $("caption").textContent = `${app.models.length > 1 ? `${app.model(job.model)?.name ?? job.model}, size` : "Size"} ${found.size}`;
    [...$("dial-table").tBodies[0].rows].forEach((row) => row.classList.toggle("chosen", row.dataset.size === found.size));
    $("dial").setAttribute("aria-valuetext", parts[0]);
    showDownloads(found);
    if (isTiled()) applyLayers();
    else if (volume.indices) await volume.showSize(found.size);
    if ($("doubt").checked) await showDoubt();
  }

  const nameSize = (size, card) => `${card?.word ? `${card.word} (${size})` : size}${card?.is_recommended ? ", recommended" : ""}`;

  function describeClass(found) {
    const objects = found.objects === null ? "" : `${formatNumber(found.objects)} ${found.objects === 1 ? "object" : "objects"}, `;
    if (found.volume_ml !== null) return `${objects}${formatNumber(found.volume_ml, 2)} ml`;
    if (found.area_mm2 !== null) return `${objects}${formatNumber(found.area_mm2, 3)} mm²`;
    return `${objects}${formatNumber(found.voxels)} pixels`;
  }

  function fillDial() {
    const { job } = view;
    const cards = app.model(job.model)?.sizes ?? [];
    const find = (size) => cards.find((each) => each.size === size);
    $("dial").max = job.sizes.length - 1;
    $("dial").value = job.sizes.length - 1;
    $("dial").disabled = job.sizes.length < 2;
    const ends = [job.sizes[0].size, job.sizes.at(-1).size];
    $("dial-first").textContent = job.sizes.length > 1 ? `faster: ${find(ends[0])?.word || ends[0]}` : "the only size";
    $("dial-last").textContent = job.sizes.length > 1 ? `thorough: ${find(ends[1])?.word || ends[1]}` : "";
    const isExpected = job.sizes.some((each) => each.expected_dice !== null);
    $("dial-dice").textContent = isExpected ? "Expected Dice" : "Validation Dice";
    replace(
      $("dial-table").tBodies[0],
      ...job.sizes.map((found) => {
        const card = find(found.size);
        const cell = (text) => make("td", { className: "number" }, text);
        const row = make("tr", {}, make("th", { scope: "row" }, nameSize(found.size, card)));
        row.append(cell(formatDice(isExpected ? found.expected_dice : card?.dice)), cell(formatNumber(card?.latency_ms, 1)), cell(formatNumber(card?.peak_memory_mb)));
        row.dataset.size = found.size;
        return row;
      }),
    );
  }

  function fillClasses() {
    const card = app.model(view.job.model);
    view.classes = (card?.classes ?? []).slice(1).map((each) => ({ ...each, shown: true }));
    const boxes = view.classes.map((each) => {
      const box = make("input", { type: "checkbox", checked: true, onchange: () => {
        each.shown = box.checked;
        if (isTiled()) applyLayers();
        else volume.color(view.classes);
        comparing.applyLayers();
      } });
      const swatch = make("span", { className: "swatch" });
      swatch.style.background = each.color;
      return make("label", { className: "check" }, box, swatch, each.name);
    });
    replace($("classes"), make("legend", {}, "Classes"), ...boxes);
  }

  function fillLayers() {
    const { job } = view;
    $("doubt").checked = false;
    $("doubt-choice").hidden = !job.sizes.at(-1).uncertainty;
    const volumes = job.view.kind === "volume";
    $("planes").hidden = !volumes;
    $("slices").hidden = !volumes;
    press($("planes").children, $("planes").children[0]);
    if (volumes) {
      const shape = volume.shape;
      shape.forEach((size, axis) => { $(`slice-${axis}`).max = size - 1; });
      showPlace();
    }
    const coarse = isTiled() || (job.view.step > 1 && !view.box);
    $("closer-row").hidden = !coarse && !view.box;
    $("closer").hidden = !coarse;
    $("whole").hidden = !view.box;
    $("paint-card").hidden = coarse;
    $("paint-start").disabled = !job.can_correct;
    $("paint-about").textContent = job.can_correct ? "Paint over what is wrong, class by class." : "An image that is a folder, or a part of a file, is corrected in a program of your own.";
    $("hint").textContent = volumes
      ? "Click or drag to move the planes; scroll for the next slice; drag with the right button to zoom."
      : "Scroll to zoom, drag with the right button or two fingers to move.";
    if (isTiled()) $("hint").textContent = "Scroll to zoom, down to single pixels; drag to move.";
    $("hint").textContent += " Keys, in the image: plus and minus zoom, 0 shows all of it, arrows move it.";
  }

  function showPlace() {
    volume.place.forEach((value, axis) => { $(`slice-${axis}`).value = Math.round(value); });
  }

  async function showDoubt() {
    const isWanted = $("doubt").checked;
    if (isTiled()) await tiles.showDoubt(isWanted ? view.size : null);
    else await volume.showDoubt(isWanted ? `/v1/jobs/${view.job.id}/view/doubt?${query(view.size)}` : null);
  }

  function showDownloads(found) {
    const base = `/v1/jobs/${view.job.id}`;
    const size = `size=${encodeURIComponent(found.size)}`;
    const links = [[`${base}/result?${size}`, "Segmentation, in the format of the image"]];
    found.probabilities.forEach((_, number) => links.push([`${base}/probabilities?${size}&number=${number}`, `Probability of ${view.classes[number]?.name}`]));
    if (found.uncertainty) links.push([`${base}/uncertainty?${size}`, "Map of doubt"]);
    links.push([`${base}/all`, "All sizes and tables (zip)"]);
    $("copied").textContent = "";
    replace($("downloads"), ...links.map(([path, text]) => make("li", {}, make("a", { href: path, download: "" }, text))));
  }

  app.viewer = {
    isBusy: () => painting.isOn(),
    mayLeave,
    /** The id of the job that is shown. */
    shown: () => view.job?.id,
    async open(job) {
      painting.stop();
      view.job = job;
      view.box = null;
      view.size = job.sizes.at(-1).size;
      view.channel = 0;
      $("viewer").hidden = false;
      $("panel").hidden = false;
      $("viewer-title").textContent = job.name;
      const best = job.sizes.at(-1);
      $("badge").hidden = !best.review && best.expected_dice === null;
      $("badge").className = best.review ? "badge review" : "badge";
      $("badge").textContent = best.review ? `Please review: ${best.why}` : `Expected Dice ${formatDice(best.expected_dice)}`;
      const unlike = job.outside.length ? [`Unlike the training: ${job.outside[0]}.`] : [];
      const sentences = job.notes.slice(0, 2).map((note) => `${note[0].toUpperCase()}${note.slice(1).replace(/\.$/, "")}.`);
      $("finding").textContent = [...unlike, ...sentences].join(" ");
      $("channel-choice").hidden = job.view.is_color || job.view.channels < 2;
      const names = app.model(job.model)?.channels ?? [];
      replace($("channel"), ...Array.from({ length: job.view.channels }, (_, number) => make("option", { value: number }, names[number] ?? `${number}`)));
      comparing.fill();
      fillDial();
      fillClasses();
      await load();
      if (job !== view.job) return; // a person has gone on meanwhile
      fillLayers();
      await chooseSize(job.sizes.length - 1);
    },
    close() {
      painting.stop();
      comparing.close();
      view.job = null;
      $("viewer").hidden = true;
      $("panel").hidden = true;
    },
  };

  /** Open a part at full resolution: around the middle of the tiles, or the crosshair of a coarse volume. */
  async function openPart() {
    const { job } = view;
    const flat = job.view.kind === "large image";
    const [x, y] = flat ? tiles.middle : [];
    const middle = flat ? [x, job.view.shape[1] - 1 - y, 0] : volume.place.map((value) => value * job.view.step);
    const side = flat ? CLOSE_FLAT : CLOSE_VOLUME;
    view.box = job.view.shape.map((size, axis) => {
      const start = Math.max(0, Math.min(size - side, Math.round(middle[axis]) - side / 2));
      return [start, Math.min(size, start + side)];
    });
    await load();
    fillLayers();
  }

  $("dial").oninput = () => app.run(() => chooseSize(Number($("dial").value)));
  $("opacity").oninput = () => shown().forEach((each) => each.setOpacity(Number($("opacity").value)));
  $("outlines").onchange = applyLayers;
  $("doubt").onchange = () => app.run(showDoubt);
  for (const id of ["low", "high"]) {
    $(id).oninput = () => !isTiled() && setWindow();
    $(id).onchange = setWindow;
  }
  $("channel").onchange = () => app.run(showChannel);
  for (const button of $("planes").children) {
    button.onclick = () => {
      press($("planes").children, button);
      shown().forEach((each) => each.setPlane(Number(button.dataset.plane)));
    };
  }
  for (const axis of [0, 1, 2]) {
    const move = () => [0, 1, 2].map((each) => Number($(`slice-${each}`).value));
    $(`slice-${axis}`).oninput = () => shown().forEach((each) => each.moveTo(move()));
  }
  startMoving({ shown, isPainting: painting.hasKeys });
  volume.moved = () => view.job?.view.kind === "volume" && showPlace();
  $("closer").onclick = () => app.run(openPart);
  $("whole").onclick = () =>
    app.run(async () => {
      if (!mayLeave()) return;
      painting.stop();
      view.box = null;
      await load();
      fillLayers();
    });
  window.addEventListener("beforeunload", (event) => painting.isDirty() && event.preventDefault());
  say(null);
}
