// Adding images: dropped or chosen files, cases of the data, and a sample.

import { getBytes, getJson, postForm } from "./api.js";
import { $, make, replace, say } from "./dom.js";
import { startSending } from "./sending.js";

const CHANNEL = /_\d{4}(?=\.)/;
const PARTS = /\.(mhd|raw|zraw|raw\.gz|nhdr|hdr|img|img\.gz)$/i;

/** Group files into cases: channels NAME_0000, NAME_0001, and headers with their voxels. */
export function groupFiles(files) {
  const cases = new Map();
  for (const file of files) {
    const key = CHANNEL.test(file.name) ? file.name.replace(CHANNEL, "") : PARTS.test(file.name) ? file.name.replace(PARTS, "") : file.name;
    cases.set(key, [...(cases.get(key) ?? []), file]);
  }
  return [...cases.values()].map((group) => group.sort((a, b) => a.name.localeCompare(b.name)));
}

function startForm(app) {
  const form = new FormData();
  form.set("model", app.chosenModel());
  form.set("tta", $("tta").checked);
  form.set("probabilities", $("probabilities").checked);
  return form;
}

/** What a browser cannot send, in one sentence; folders come as files without content. */
function findFolders(items) {
  return [...items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry?.isDirectory).map((entry) => entry.name);
}

async function addCase(app, name) {
  const form = startForm(app);
  form.set("case", name);
  app.jobs.follow(await postForm("/v1/predict", form), true);
}

async function addSample(app, addFiles) {
  const [first] = app.server.cases ? await getJson("/v1/cases?count=1") : [];
  if (first) return addCase(app, first.id);
  const { dims } = app.model(app.chosenModel());
  const sample = await getBytes(`/v1/sample?dims=${dims}`);
  return addFiles([new File([sample], dims === 2 ? "sample.png" : "sample.nii.gz")]);
}

export async function startAdding(app) {
  const drop = $("drop");
  const send = startSending(app);
  const addFiles = (files) =>
    send(groupFiles(files).map((group) => {
      const form = startForm(app);
      for (const file of group) form.append("files", file, file.name);
      return form;
    }));
  $("files").onchange = async (event) => {
    const files = [...event.target.files];
    await app.run(() => addFiles(files));
    event.target.value = "";
  };
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const folders = findFolders(event.dataTransfer.items);
    const files = [...event.dataTransfer.files].filter((file) => !folders.includes(file.name));
    app.run(async () => {
      await addFiles(files);
      if (folders.length) throw new Error(`${folders.join(", ")}: a folder cannot be dropped. Drop the files in it; serve an OME-Zarr image by \`--data\`; convert DICOM with dcm2niix.`);
    });
  });
  $("sample").onclick = () => app.run(() => addSample(app, addFiles));
  if (!app.server.cases) return;
  $("case-choice").hidden = false;
  $("data-name").textContent = app.server.data;
  const list = async (search) => {
    const cases = await getJson(`/v1/cases?count=50&search=${encodeURIComponent(search)}`);
    replace($("cases"), ...cases.map((each) => make("option", { value: each.id })));
    return cases;
  };
  await list("");
  $("case").oninput = () => app.run(() => list($("case").value));
  $("case").onchange = () =>
    app.run(async () => {
      const name = $("case").value;
      if (!name) return;
      await addCase(app, name);
      $("case").value = "";
    });
}
