// NiiVue with an image, its segmentation and a map of doubt. All come on one grid, axes to the right, the front and
// the head, so that NiiVue turns nothing: voxel numbers here are those of the server.

import { DRAG_MODE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "/web/vendor/niivue.js";
import { getBytes } from "./api.js";

const HEADER = 352;
const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 64;
const TURN = 50; // degrees, for the width of the image

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
    this.asked = 0; // of several images the last one counts
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

  /** Load an image and its segmentation at each size; false: another one was asked for meanwhile. */
  async load({ image, labels, isFlat, isColor, window, classes }) {
    const number = (this.asked += 1);
    await this.start();
    const [pixels, first] = await Promise.all([getBytes(image), getBytes(labels.at(-1).path)]);
    const range = isColor ? {} : { cal_min: window[0], cal_max: window[1] };
    const shown = await NVImage.loadFromUrl({ url: "image.nii", name: "image.nii", buffer: pixels, colormap: "gray", ...range });
    const found = await NVImage.loadFromUrl({ url: "labels.nii", name: "labels.nii", buffer: first, opacity: 0.5 });
    if (number !== this.asked) return false;
    const { nv } = this;
    this.closeDrawing();
    while (nv.volumes.length) nv.removeVolume(nv.volumes.at(-1));
    this.indices = new Map([[labels.at(-1).size, readIndices(first)]]);
    this.labelPaths = labels;
    this.isFlat = isFlat;
    nv.addVolume(shown);
    nv.addVolume(found);
    this.colors = isColor ? shown.img.slice() : null;
    if (isColor) this.setWindow(...window);
    this.size = labels.at(-1).size;
    this.color(classes);
    nv.opts.dragMode = isFlat ? DRAG_MODE.pan : DRAG_MODE.slicer3D;
    nv.opts.crosshairWidth = isFlat ? 0 : 0.4;
    nv.setSliceType(isFlat ? SLICE_TYPE.AXIAL : SLICE_TYPE.MULTIPLANAR);
    nv.setPan2Dxyzmm([0, 0, 0, 1]);
    if (!isFlat) this.moveTo(this.findFullest());
    // the other sizes follow, so that the slider shows each at once
    for (const each of labels.slice(0, -1)) this.fetchSize(each.size);
    return true;
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
    const span = Math.max(high - low, 1e-6);
    if (this.colors) {
      // NiiVue has no window for colors
      const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => (255 * (value - low)) / span);
      this.colors.forEach((value, place) => { image.img[place] = table[value]; });
    } else Object.assign(image, { cal_min: low, cal_max: low + span });
    this.nv.updateGLVolume();
  }

  /** Show another channel of the image on the same grid: what is painted stays. */
  async showChannel({ path, window }) {
    const [shown] = this.nv.volumes;
    const asked = (this.channelAsked = (this.channelAsked ?? 0) + 1);
    const buffer = await getBytes(path);
    const { img } = await NVImage.loadFromUrl({ url: "image.nii", name: "image.nii", buffer });
    if (asked !== this.channelAsked || this.nv.volumes[0] !== shown) return; // another channel or image since then
    shown.img.set(img);
    this.setWindow(...window);
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

  /** Zoom by a factor: an image around the middle of what is seen, a volume around the cross. */
  zoomBy(factor) {
    const { scene, opts } = this.nv;
    const change = (zoom) => Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, zoom * factor));
    if (opts.sliceType === SLICE_TYPE.RENDER) return this.nv.setScale(change(scene.volScaleMultiplier));
    const [pan, zoom] = [scene.pan2Dxyzmm, scene.pan2Dxyzmm[3]];
    // on the screen a place lies at zoom * place + pan
    const middle = this.nv.frac2mm([0.5, 0.5, 0.5]);
    const place = this.isFlat ? [0, 1, 2].map((axis) => (middle[axis] - pan[axis]) / zoom) : this.nv.frac2mm(scene.crosshairPos);
    const next = change(zoom);
    return this.nv.setPan2Dxyzmm([...[0, 1, 2].map((axis) => pan[axis] + (zoom - next) * place[axis]), next]);
  }

  /** Move what is seen by parts of the whole image along x, y, z; turn it in 3D. */
  panBy(parts) {
    const { scene, opts } = this.nv;
    if (opts.sliceType === SLICE_TYPE.RENDER) {
      return this.nv.setRenderAzimuthElevation(scene.renderAzimuth + TURN * parts[0], scene.renderElevation + TURN * parts[1]);
    }
    const [first, last] = [this.nv.frac2mm([0, 0, 0]), this.nv.frac2mm([1, 1, 1])];
    const pan = [0, 1, 2].map((axis) => scene.pan2Dxyzmm[axis] - parts[axis] * (last[axis] - first[axis]));
    return this.nv.setPan2Dxyzmm([...pan, scene.pan2Dxyzmm[3]]);
  }

  zoomOut() {
    this.nv.setScale(1);
    this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
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

  /** Show the cross also in images, for a person without a mouse. */
  showCross() {
    this.nv.opts.crosshairWidth = 0.4;
  }

  closeDrawing() {
    if (!this.nv?.drawBitmap) return;
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
  }
}
