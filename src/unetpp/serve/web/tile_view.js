// OpenSeadragon with tiles that the server cuts: images that no browser holds.

const TILE = 512;
let library = null;

function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/web/vendor/openseadragon.js";
    script.onload = () => resolve(window.OpenSeadragon);
    script.onerror = () => reject(new Error("The viewer of large images could not be loaded. Reload the page."));
    document.head.append(script);
  });
  return library;
}

export class TileView {
  constructor(element) {
    this.element = element;
    this.asked = 0; // of several images the last one counts
  }

  /** Load a job, with a channel of its image and [darkest, brightest]; false: another one was asked for meanwhile. */
  async load(job, channel, window) {
    const number = (this.asked += 1);
    this.close();
    const OpenSeadragon = await loadLibrary();
    if (number !== this.asked) return false;
    this.job = job;
    this.channel = channel;
    this.viewer = OpenSeadragon({
      element: this.element,
      showNavigationControl: false,
      showNavigator: true,
      maxZoomPixelRatio: 16,
      imageSmoothingEnabled: false,
      crossOriginPolicy: false,
      tileSources: [this.makeSource("image", this.describe(window)), this.makeSource("labels", "")],
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
    await new Promise((resolve) => this.viewer.addOnceHandler("open", resolve));
    const { world } = this.viewer;
    this.layers = { image: world.getItemAt(0), labels: world.getItemAt(1) };
    this.requests = { image: 0, labels: 0, doubt: 0 };
    this.setOpacity(0.5);
    this.viewer.canvas.setAttribute("aria-label", "The image with its segmentation: plus and minus zoom, arrow keys move");
    return true;
  }

  describe([low, high]) {
    return `?channel=${this.channel}&low=${low}&high=${high}`;
  }

  makeSource(layer, query) {
    const [width, height] = this.job.view.shape;
    const source = { width, height, tileSize: TILE, tileOverlap: 0, minLevel: 0 };
    source.getTileUrl = (level, x, y) => `/v1/jobs/${this.job.id}/tiles/${layer}/${level}/${x}_${y}.png${query}`;
    return source;
  }

  /** Draw the segmentation anew: at a size, with some classes, filled or as outlines. */
  showLabels(size, classes, outlines) {
    const shown = classes.filter((each) => each.shown).map((each) => each.index).join(",") || "0";
    this.replaceLayer("labels", `?size=${encodeURIComponent(size)}&classes=${shown}&outlines=${outlines}`, { opacity: this.opacity, index: 1 });
  }

  setOpacity(value) {
    this.opacity = value;
    this.layers.labels.setOpacity(value);
  }

  setWindow(low, high) {
    this.replaceLayer("image", this.describe([low, high]), { index: 0 });
  }

  async showChannel({ channel, window }) {
    this.channel = channel;
    this.setWindow(...window);
  }

  /** Show the map of doubt of a size; null: none. */
  async showDoubt(size) {
    if (size) return this.replaceLayer("doubt", `?size=${encodeURIComponent(size)}`, { opacity: 0.6 });
    this.requests.doubt += 1;
    if (this.layers.doubt) this.viewer.world.removeItem(this.layers.doubt);
    this.layers.doubt = null;
    return undefined;
  }

  zoomBy(factor) {
    this.viewer.viewport.zoomBy(factor).applyConstraints();
  }

  zoomOut() {
    this.viewer.viewport.goHome();
  }

  /** Replace a layer when the new one is there; of several requests the last one counts. */
  replaceLayer(layer, query, options) {
    const number = (this.requests[layer] += 1);
    const { world } = this.viewer;
    this.viewer.addTiledImage({
      ...options,
      tileSource: this.makeSource(layer, query),
      success: ({ item }) => {
        const isLast = number === this.requests[layer];
        const old = isLast ? this.layers[layer] : item;
        if (old) world.removeItem(old);
        if (isLast) this.layers[layer] = item;
        if (isLast && layer === "labels") item.setOpacity(this.opacity);
      },
    });
  }

  /** Share place and zoom with another view. */
  link(other) {
    let moving = false;
    const follow = (from, to) => {
      if (moving || !to.viewer || !from.viewer) return;
      moving = true;
      to.viewer.viewport.zoomTo(from.viewer.viewport.getZoom(), null, true);
      to.viewer.viewport.panTo(from.viewer.viewport.getCenter(), true);
      moving = false;
    };
    this.viewer.addHandler("viewport-change", () => follow(this, other));
    other.viewer.addHandler("viewport-change", () => follow(other, this));
    follow(other, this);
  }

  /** The pixel (x, y) in the middle, y down. */
  get middle() {
    const point = this.layers.image.viewportToImageCoordinates(this.viewer.viewport.getCenter());
    return [Math.round(point.x), Math.round(point.y)];
  }

  close() {
    this.viewer?.destroy();
    this.viewer = null;
  }
}
