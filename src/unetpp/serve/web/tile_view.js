// OpenSeadragon with tiles that the server cuts: images that no browser holds.

import { $ } from "./dom.js";

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
  async load(job) {
    this.close();
    const OpenSeadragon = await loadLibrary();
    this.job = job;
    this.style = { opacity: 0.5, query: "" };
    this.viewer = OpenSeadragon({
      element: $("tiles"),
      showNavigationControl: false,
      showNavigator: true,
      maxZoomPixelRatio: 16,
      imageSmoothingEnabled: false,
      crossOriginPolicy: false,
      tileSources: [this.makeSource("image", ""), this.makeSource("labels", "")],
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
    await new Promise((resolve) => this.viewer.addOnceHandler("open", resolve));
    this.setOpacity(0.5);
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
    const query = `?size=${encodeURIComponent(size)}&classes=${shown}&outlines=${outlines}`;
    const before = this.viewer.world.getItemAt(1);
    this.viewer.addTiledImage({
      tileSource: this.makeSource("labels", query),
      opacity: this.opacity,
      success: () => before && this.viewer.world.removeItem(before),
    });
  }

  setOpacity(value) {
    this.opacity = value;
    this.viewer.world.getItemAt(1)?.setOpacity(value);
  }

  setWindow(low, high) {
    const query = `?low=${low}&high=${high}`;
    const before = this.viewer.world.getItemAt(0);
    this.viewer.addTiledImage({
      tileSource: this.makeSource("image", query),
      index: 0,
      success: () => this.viewer.world.removeItem(before),
    });
  }

  /** The pixel (x, y) in the middle, y down. */
  get middle() {
    const point = this.viewer.world.getItemAt(0).viewportToImageCoordinates(this.viewer.viewport.getCenter());
    return [Math.round(point.x), Math.round(point.y)];
  }

  close() {
    this.viewer?.destroy();
    this.viewer = null;
  }
}
