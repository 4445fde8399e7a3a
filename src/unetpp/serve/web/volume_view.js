// NiiVue with an image, its segmentation and a map of doubt. All come on one grid, axes to the right, the front and
// the head, so that NiiVue turns nothing: voxel numbers here are those of the server.

import { DRAG_MODE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "/web/vendor/niivue.js";
import { getBytes } from "./api.js";

const HEADER = 352;

/** Values of the drawing above this one are suggested, not painted. */
export const SUGGESTED = 128;

/** The voxels of an uncompressed NIfTI of class indices. */
function readIndices(buffer) {
  const type = new DataView(buffer).getInt16(70, true);
  return type === 512 ? new Uint16Array(buffer.slice(HEADER)) : new Uint8Array(buffer.slice(HEADER));
}

export class VolumeView {
  constructor(canvas) {
    this.canvas = canvas;
    this.painted = () => {};
    this.moved = () => {};
  }

  async start() {
    if (this.nv) return;
    this.nv = new Niivue({
      backColor: [0.043, 0.059, 0.078, 1],
      show3Dcrosshair: true,
      crosshairWidthUnit: "percent",
      crosshairColor: [0.54, 0.71, 1, 0.6],
      isOrientationTextVisible: false,
      isNearestInterpolation: true,
      dragAndDropEnabled: false,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      isResizeCanvas: true,
      penSize: 3,
      logLevel: "error",
      loadingText: "",
      textHeight: 0.03,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
    });
    await this.nv.attachToCanvas(this.canvas);
    this.nv.onLocationChange = (place) => this.moved(place);
    this.nv.onDrawingChanged = () => this.painted();
  }

  /** Load an image; `paths` are those of the image and of the segmentation at each size. */
  async load({ image, labels, isFlat, isColor, window, classes }) {
    await this.start();
    this.stopPainting();
    const { nv } = this;
    while (nv.volumes.length) nv.removeVolume(nv.volumes.at(-1));
    this.indices = new Map();
    this.labelPaths = labels;
    this.isFlat = isFlat;
    const [pixels, first] = await Promise.all([getBytes(image), getBytes(labels.at(-1).path)]);
    this.indices.set(labels.at(-1).size, readIndices(first));
    const range = isColor || !window ? {} : { cal_min: window[0], cal_max: window[1] };
    nv.addVolume(await NVImage.loadFromUrl({ url: "image.nii", name: "image.nii", buffer: pixels, colormap: "gray", ...range }));
    nv.addVolume(await NVImage.loadFromUrl({ url: "labels.nii", name: "labels.nii", buffer: first, opacity: 0.5 }));
    this.size = labels.at(-1).size;
    this.color(classes);
    nv.opts.dragMode = isFlat ? DRAG_MODE.pan : DRAG_MODE.slicer3D;
    nv.opts.crosshairWidth = isFlat ? 0 : 0.4;
    nv.setSliceType(isFlat ? SLICE_TYPE.AXIAL : SLICE_TYPE.MULTIPLANAR);
    nv.setPan2Dxyzmm([0, 0, 0, 1]);
    if (!isFlat) this.moveTo(this.findFullest());
    // the other sizes follow, so that the slider shows each at once
    for (const each of labels.slice(0, -1)) this.fetchSize(each.size);
  }

  get isLoaded() {
    return this.nv?.volumes.length > 1;
  }

  /** Share planes, place and zoom with another view: the one that has the focus leads. */
  link(other) {
    this.nv.broadcastTo([other.nv]);
    other.nv.broadcastTo([this.nv]);
    this.nv.setSliceType(other.nv.opts.sliceType);
    other.nv.doSync2d(this.nv);
    other.nv.doSync3d(this.nv);
    this.nv.drawScene();
  }

  unlink() {
    if (this.nv) this.nv.otherNV = null;
  }

  get shape() {
    return this.nv.volumes[0].dims.slice(1, 4);
  }

  async fetchSize(size) {
    if (!this.indices.has(size)) {
      const found = this.indices;
      const { path } = this.labelPaths.find((each) => each.size === size);
      found.set(size, readIndices(await getBytes(path)));
    }
    return this.indices.get(size);
  }

  async showSize(size) {
    this.size = size;
    const indices = await this.fetchSize(size);
    if (this.size !== size) return;
    this.nv.volumes[1].img.set(indices);
    this.nv.updateGLVolume();
  }

  /** Color the classes: [{index, color: "#rrggbb", shown}]. */
  color(classes) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const { index, color, shown, name } of classes) {
      table.I.push(index);
      table.R.push(parseInt(color.slice(1, 3), 16));
      table.G.push(parseInt(color.slice(3, 5), 16));
      table.B.push(parseInt(color.slice(5, 7), 16));
      table.A.push(shown ? 255 : 0);
      table.labels.push(name);
    }
    this.nv.volumes[1].setColormapLabel(table);
    this.nv.updateGLVolume();
  }

  setOpacity(value) {
    this.nv.setOpacity(1, value);
  }

  setOutlines(isOn) {
    this.nv.setAtlasOutline(isOn ? 1 : 0);
    this.nv.updateGLVolume();
  }

  setWindow(low, high) {
    const [image] = this.nv.volumes;
    image.cal_min = low;
    image.cal_max = Math.max(high, low + 1e-6);
    this.nv.updateGLVolume();
  }

  async showDoubt(path) {
    const { nv } = this;
    if (nv.volumes.length > 2) nv.removeVolume(nv.volumes[2]);
    if (!path) return;
    const buffer = await getBytes(path);
    nv.addVolume(await NVImage.loadFromUrl({ url: "doubt.nii", name: "doubt.nii", buffer, colormap: "inferno", opacity: 0.6, cal_min: 0.02, cal_max: 1 }));
  }

  setPlane(type) {
    this.nv.setSliceType(type);
  }

  get place() {
    return [...this.nv.frac2vox(this.nv.scene.crosshairPos)];
  }

  moveTo(voxel) {
    this.nv.scene.crosshairPos = this.nv.vox2frac(voxel);
    this.nv.drawScene();
  }

  /** The voxel in the middle of the labeled ones. */
  findFullest() {
    const [width, height, depth] = this.shape;
    const indices = this.indices.get(this.size);
    const sums = [0, 0, 0];
    let count = 0;
    for (let place = 0; place < indices.length; place += 7) {
      if (!indices[place]) continue;
      count += 1;
      sums[0] += place % width;
      sums[1] += Math.floor(place / width) % height;
      sums[2] += Math.floor(place / (width * height));
    }
    return count ? sums.map((sum) => Math.round(sum / count)) : [width >> 1, height >> 1, depth >> 1];
  }

  startPainting(colors) {
    const { nv } = this;
    nv.setDrawColormap(colors);
    nv.createEmptyDrawing();
    this.seen = new Uint8Array(nv.drawBitmap);
    nv.setDrawOpacity(0.75);
    nv.setDrawingEnabled(true);
  }

  stopPainting() {
    if (!this.nv?.drawBitmap) return;
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
  }

  setPen(value, isFilled, size) {
    this.nv.setDrawingEnabled(true);
    this.nv.setPenValue(value, isFilled);
    this.nv.opts.penSize = size;
  }

  rest() {
    this.nv.setDrawingEnabled(false);
  }

  undo() {
    this.nv.drawUndo();
  }

  /** The middle of what was painted since the last call, as a voxel; null: nothing was. */
  findNew() {
    const bitmap = this.nv.drawBitmap;
    const [width, height] = this.shape;
    const sums = [0, 0, 0];
    let count = 0;
    for (let place = 0; place < bitmap.length; place += 1) {
      const value = bitmap[place] > SUGGESTED ? 0 : bitmap[place];
      if (value && value !== this.seen[place]) {
        count += 1;
        sums[0] += place % width;
        sums[1] += Math.floor(place / width) % height;
        sums[2] += Math.floor(place / (width * height));
      }
      this.seen[place] = value;
    }
    return count ? sums.map((sum) => Math.round(sum / count)) : null;
  }

  /** Show suggested voxels of a box of the image, where nothing is painted; `part`: the box that is open. */
  showSuggestion(box, runs, part) {
    const bitmap = this.nv.drawBitmap;
    const shape = this.shape;
    const [width, height] = box.map(([start, stop]) => stop - start);
    for (const [first, length, index] of runs) {
      for (let inside = first; inside < first + length; inside += 1) {
        const within = [inside % width, Math.floor(inside / width) % height, Math.floor(inside / (width * height))];
        const place = within.map((value, axis) => value + box[axis][0] - (part ? part[axis][0] : 0));
        if (place.some((value, axis) => value < 0 || value >= shape[axis])) continue;
        const at = place[0] + shape[0] * (place[1] + shape[1] * place[2]);
        if (!bitmap[at]) bitmap[at] = index + 1 + SUGGESTED;
      }
    }
    this.nv.refreshDrawing(true);
  }

  takeSuggestion() {
    this.changeSuggestion((value) => value - SUGGESTED);
    this.seen.set(this.nv.drawBitmap);
    this.nv.drawAddUndoBitmap();
    this.painted();
  }

  dropSuggestion() {
    this.changeSuggestion(() => 0);
  }

  changeSuggestion(change) {
    const bitmap = this.nv?.drawBitmap;
    if (!bitmap) return;
    for (let place = 0; place < bitmap.length; place += 1) {
      if (bitmap[place] > SUGGESTED) bitmap[place] = change(bitmap[place]);
    }
    this.nv.refreshDrawing(true);
  }

  fillBetween() {
    this.nv.interpolateMaskSlices();
    this.nv.refreshDrawing(true);
    this.nv.drawAddUndoBitmap();
  }

  /** Show the cross also in images, for a person without a mouse. */
  showCross() {
    this.nv.opts.crosshairWidth = 0.4;
  }

  /** Paint a disc across the head-to-feet axis. */
  paintDisc([x, y, z], value, size) {
    const [width, height] = this.shape;
    const radius = size / 2;
    const far = Math.floor(radius);
    for (let dy = -far; dy <= far; dy += 1) {
      for (let dx = -far; dx <= far; dx += 1) {
        const isInside = dx * dx + dy * dy <= radius * radius && x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height;
        if (isInside) this.nv.drawBitmap[x + dx + width * (y + dy + height * z)] = value;
      }
    }
    this.nv.refreshDrawing(true);
    this.nv.drawAddUndoBitmap();
  }

  /** Paint over the predicted object at a voxel; returns its number of voxels. */
  paintObject(start, value) {
    const [width, height, depth] = this.shape;
    const indices = this.indices.get(this.size);
    const bitmap = this.nv.drawBitmap;
    const first = start[0] + width * (start[1] + height * start[2]);
    const wanted = indices[first];
    if (!wanted) return 0;
    const seen = new Uint8Array(indices.length);
    const stack = [first];
    seen[first] = 1;
    let count = 0;
    while (stack.length) {
      const place = stack.pop();
      bitmap[place] = value;
      count += 1;
      const x = place % width;
      const y = Math.floor(place / width) % height;
      const z = Math.floor(place / (width * height));
      const near = [x > 0 && place - 1, x < width - 1 && place + 1, y > 0 && place - width, y < height - 1 && place + width];
      near.push(z > 0 && place - width * height, z < depth - 1 && place + width * height);
      for (const next of near) {
        if (next === false || seen[next] || indices[next] !== wanted) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    this.nv.refreshDrawing(true);
    this.nv.drawAddUndoBitmap();
    return count;
  }

  /** What was painted as runs [first voxel, number, class index]; pens are numbered from 1, classes from 0. */
  readRuns() {
    const bitmap = this.nv.drawBitmap;
    const runs = [];
    let start = 0;
    while (start < bitmap.length) {
      const value = bitmap[start];
      let stop = start + 1;
      while (stop < bitmap.length && bitmap[stop] === value) stop += 1;
      if (value && value <= SUGGESTED) runs.push([start, stop - start, value - 1]);
      start = stop;
    }
    return runs;
  }
}
