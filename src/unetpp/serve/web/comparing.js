// Two results of one image side by side, with one zoom and place: another size of the network, or another model.

import { getJson, post } from "./api.js";
import { $, make, replace } from "./dom.js";
import { TileView } from "./tile_view.js";
import { VolumeView } from "./volume_view.js";

const POLL_MS = 700;
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export function startComparing(app, view, { isTiled, query, imagePath }) {
  const volume = new VolumeView($("canvas-beside"));
  const tiles = new TileView($("tiles-beside"));
  const beside = { job: null, size: null, classes: [] };
  let asked = 0; // of several choices the last one counts

  function fill() {
    const { job } = view;
    const sizes = job.sizes.length > 1 ? job.sizes.map(({ size }) => make("option", { value: `size ${size}` }, `Size ${size}`)) : [];
    const card = app.model(job.model);
    const models = app.models.filter((each) => each.id !== job.model && each.dims === card?.dims && each.channels.length === card?.channels.length);
    const options = [...sizes, ...models.map((each) => make("option", { value: `model ${each.id}` }, each.name))];
    replace($("beside"), make("option", { value: "" }, "Nothing"), ...options);
    $("beside-choice").hidden = !options.length;
    close();
  }

  /** Predict the image with another model, unless that is done, and wait for the result. */
  async function predict(model, number) {
    let job = await post(`/v1/jobs/${view.job.id}/again`, { model });
    app.jobs.follow(job);
    while (["queued", "running"].includes(job.state) && number === asked) {
      await pause(POLL_MS);
      job = await getJson(`/v1/jobs/${job.id}`);
    }
    if (job.state !== "done" && number === asked) throw new Error(job.problem ? `${job.problem.got}; expected ${job.problem.expected}. ${job.problem.action}` : "The prediction was cancelled.");
    return job;
  }

  async function choose(value) {
    close();
    if (!value) return;
    $("beside").value = value;
    const number = asked;
    const [kind, name] = [value.slice(0, value.indexOf(" ")), value.slice(value.indexOf(" ") + 1)];
    $("stages").classList.add("two");
    $("stage-beside").hidden = false;
    $("loading-beside").hidden = false;
    try {
      const job = kind === "size" ? view.job : await predict(name, number);
      if (number !== asked) return;
      beside.job = job;
      beside.size = kind === "size" ? name : job.sizes.at(-1).size;
      $("caption-beside").textContent = kind === "size" ? `Size ${name}` : `${app.model(name).name}, size ${beside.size}`;
      await load();
    } catch (error) {
      if (number === asked) close();
      throw error;
    } finally {
      if (number === asked) $("loading-beside").hidden = true;
    }
  }

  async function load() {
    const { job, size } = beside;
    const shown = new Map(view.classes.map((each) => [each.name, each.shown]));
    beside.classes = (app.model(job.model)?.classes ?? []).slice(1).map((each) => ({ ...each, shown: shown.get(each.name) ?? true }));
    $("tiles-beside").hidden = !isTiled();
    $("canvas-beside").hidden = isTiled();
    if (isTiled()) {
      await tiles.load(job, view.channel, view.window);
      tiles.link(view.tiles);
    } else {
      const base = `/v1/jobs/${job.id}/view`;
      await volume.load({
        image: imagePath(),
        labels: [{ size, path: `${base}/labels?${query(size)}` }],
        isFlat: job.view.kind !== "volume",
        isColor: job.view.is_color,
        window: view.window,
        classes: beside.classes,
      });
      volume.link(view.volume);
    }
    applyLayers();
  }

  function applyLayers() {
    if (!beside.job) return;
    const outlines = $("outlines").checked;
    const opacity = Number($("opacity").value);
    for (const each of beside.classes) each.shown = view.classes.find(({ name }) => name === each.name)?.shown ?? true;
    if (isTiled()) {
      tiles.setOpacity(opacity);
      tiles.showLabels(beside.size, beside.classes, outlines);
    } else if (volume.isLoaded) {
      volume.setOpacity(opacity);
      volume.setOutlines(outlines);
      volume.color(beside.classes);
    }
  }

  function close() {
    asked += 1;
    beside.job = null;
    tiles.close();
    view.volume.unlink();
    $("stages").classList.remove("two");
    $("stage-beside").hidden = true;
    $("loading-beside").hidden = true;
    $("beside").value = "";
  }

  $("beside").onchange = () => app.run(() => choose($("beside").value));
  return {
    fill,
    close,
    applyLayers,
    reload: () => (beside.job ? load() : undefined),
    /** What is beside the viewer at the moment, to be changed together with it. */
    shown: () => (beside.job ? [isTiled() ? tiles : volume] : []),
  };
}
