/* Makes every figure of class "xpsr-slider" comparable: a line to drag, one zoom for all pictures, their difference.

   Lengths: "extent" is the size of the largest picture in its own pixels, and all pictures are laid over that extent;
   "zoom" is device pixels per pixel of the extent; (x, y) is where the extent begins in a pane, in CSS pixels. */
(() => {
  "use strict";

  const ZOOMS = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64];
  const MODES = { slider: "Slider", side: "Side by side", difference: "Difference" };
  const GAINS = [1, 2, 4, 8, 16];
  const LIKE_SHAPES = 1.02; // sides whose proportions differ by less than this are taken for the same shape
  const BAND_ROWS = 512;

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function element(tag, className, properties = {}, children = []) {
    const made = Object.assign(document.createElement(tag), properties);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  const isAlone = () => document.querySelectorAll(".xpsr-slider").length === 1;
  const hint = () => `Drag the line, or use the arrow keys. Zoom with + \u2212 or ${isAlone() ? "" : "a click and "}`
    + "the wheel, and drag to move.";

  // Where a picture lies in the extent: all over it, or in its middle if it has another shape.
  function placeIn(extent, { width, height }) {
    const [across, down] = [extent.width / width, extent.height / height];
    const alike = Math.max(across, down) < LIKE_SHAPES * Math.min(across, down);
    const grow = Math.min(across, down);
    const size = alike ? { width: extent.width, height: extent.height } : { width: width * grow, height: height * grow };
    return { left: (extent.width - size.width) / 2, top: (extent.height - size.height) / 2, ...size };
  }

  class Slider {
    constructor(figure) {
      this.figure = figure;
      this.stage = figure.querySelector(".xpsr-stage");
      this.pictures = [...this.stage.querySelectorAll(".xpsr-pane")].map((pane) => this.takePicture(pane));
      const largest = this.pictures.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
      this.width = largest.width;
      this.height = largest.height;
      for (const picture of this.pictures) picture.place = placeIn(this, picture);
      Object.assign(this, { mode: "slider", left: 0, right: 1, gain: 4, position: 0.5, fitted: true });
      Object.assign(this, { zoom: 1, x: 0, y: 0, pointers: new Map(), wheel: 0, differenceOf: "" });
      this.addDifferencePane();
      this.addHandle();
      this.addTools();
      this.listen();
      figure.classList.add("ready");
      this.setMode("slider");
      new ResizeObserver(() => this.layOut()).observe(figure);
    }

    // ---- the pieces -------------------------------------------------------------------------------------------

    takePicture(pane) {
      const image = pane.querySelector("img");
      image.classList.add("xpsr-picture");
      const view = element("div", "xpsr-view");
      image.replaceWith(view);
      view.append(image);
      const size = { width: Number(image.getAttribute("width")), height: Number(image.getAttribute("height")) };
      return { pane, image, name: image.alt, ...size };
    }

    addDifferencePane() {
      this.canvas = element("canvas", "xpsr-picture", { width: 1, height: 1 });
      this.amplified = element("div", "xpsr-view", {}, [this.canvas]); // its filter stays of the size of the screen
      this.differenceName = element("span", "xpsr-name");
      const pane = element("div", "xpsr-pane xpsr-difference", {}, [this.amplified, this.differenceName]);
      this.difference = { pane, image: this.canvas, width: this.width, height: this.height };
      this.difference.place = placeIn(this, this.difference);
      this.stage.append(pane);
    }

    addHandle() {
      this.handle = element("div", "xpsr-handle", { tabIndex: 0 });
      for (const [name, value] of [["role", "slider"], ["aria-label", "Dividing line"], ["aria-valuemin", 0],
        ["aria-valuemax", 100], ["aria-orientation", "horizontal"]]) this.handle.setAttribute(name, value);
      this.stage.append(this.handle);
      this.stage.tabIndex = 0;
      this.stage.setAttribute("role", "group");
      this.stage.setAttribute("aria-label", this.figure.getAttribute("aria-label") || "Pictures to compare");
    }

    addTools() {
      const button = (text, label, onclick) => element("button", "", { type: "button", textContent: text, title: label,
        ariaLabel: label, onclick });
      const choice = (label, texts, chosen, onchange) => element("select", "", { title: label, ariaLabel: label,
        onchange }, texts.map((text, value) => new Option(text, value, false, value === chosen)));
      const group = (...children) => element("span", "", {}, children);

      this.modeButtons = Object.entries(MODES).map(([mode, label]) => {
        const made = button(label, label, () => this.setMode(mode));
        made.dataset.mode = mode;
        return made;
      });
      const names = this.pictures.map((picture) => picture.name);
      this.leftChoice = choice("Left picture", names, 0, (event) => this.choose(Number(event.target.value), this.right));
      this.rightChoice = choice("Right picture", names, 1, (event) => this.choose(this.left, Number(event.target.value)));
      this.swapButton = button("\u21c4", "Swap left and right", () => this.choose(this.right, this.left));
      this.sides = group(this.leftChoice, this.swapButton, this.rightChoice);
      if (names.length === 2) this.leftChoice.hidden = this.rightChoice.hidden = true;
      this.gainChoice = choice("Amplification of the difference", GAINS.map((gain) => `\u00d7 ${gain}`),
        GAINS.indexOf(this.gain), (event) => this.setGain(GAINS[event.target.value]));
      this.zoomOutput = element("output", "", { title: "Zoom" });
      this.readout = element("div", "xpsr-readout", { textContent: hint() });
      const tools = element("div", "xpsr-tools", {}, [
        group(...this.modeButtons), this.gainChoice, this.sides,
        group(button("\u2212", "Zoom out", () => this.step(-1)), this.zoomOutput, button("+", "Zoom in",
          () => this.step(1)), button("Fit", "Show all of it", () => this.fit()), button("1:1", "100 %",
          () => this.zoomTo(1))),
        button("Full screen", "Full screen", () => this.toggleFullScreen()),
      ]);
      this.stage.before(tools);
      this.stage.after(this.readout);
    }

    // ---- what is shown ----------------------------------------------------------------------------------------

    setMode(mode) {
      this.mode = this.figure.dataset.mode = mode;
      for (const made of this.modeButtons) made.setAttribute("aria-pressed", String(made.dataset.mode === mode));
      this.gainChoice.hidden = mode !== "difference";
      this.sides.hidden = mode === "side";
      this.handle.hidden = mode !== "slider";
      this.choose(this.left, this.right);
    }

    choose(left, right) {
      [this.left, this.right] = [left, right];
      this.leftChoice.value = left;
      this.rightChoice.value = right;
      this.pictures.forEach(({ pane }, index) => {
        pane.classList.toggle("shown", this.mode === "side" || (this.mode === "slider" && [left, right].includes(index)));
        pane.classList.toggle("right", index === right && index !== left);
      });
      this.difference.pane.classList.toggle("shown", this.mode === "difference");
      this.readout.textContent = hint();
      this.layOut();
      if (this.mode === "difference") this.drawDifference();
    }

    get shown() {
      if (this.mode === "side") return this.pictures;
      return this.mode === "slider" ? [this.pictures[this.left], this.pictures[this.right]] : [this.difference];
    }

    setGain(gain) {
      this.gain = gain;
      this.amplified.style.filter = `brightness(${gain})`;
      const [a, b] = [this.pictures[this.left], this.pictures[this.right]];
      this.differenceName.textContent = `| ${a.name} \u2212 ${b.name} | \u00d7 ${gain}`;
    }

    async drawDifference() {
      this.setGain(this.gain);
      const [a, b] = [this.pictures[this.left], this.pictures[this.right]];
      const wanted = this.differenceOf = `${this.left} ${this.right}`;
      a.image.loading = b.image.loading = "eager";
      await Promise.all([a.image.decode(), b.image.decode()]);
      if (wanted !== this.differenceOf) return; // another pair was chosen meanwhile
      const { mean, largest } = writeDifference(this.canvas, [a, b], this.width, this.height);
      this.readout.textContent = largest === 0 ? "There is no difference: every pixel is the same."
        : `Absolute difference: mean ${mean.toFixed(2)}, largest ${largest} of 255.`;
      this.figure.dataset.difference = largest;
    }

    // ---- where it is shown ------------------------------------------------------------------------------------

    get ratio() {
      return window.devicePixelRatio || 1;
    }

    get scale() {
      return this.zoom / this.ratio; // CSS pixels per pixel of the extent
    }

    layOut() {
      const full = document.fullscreenElement === this.figure;
      const outer = this.stage.clientWidth;
      if (!outer) return;
      const columns = this.mode === "side" ? clamp(Math.floor(outer / 240), 1, this.pictures.length) : 1;
      const rows = this.mode === "side" ? Math.ceil(this.pictures.length / columns) : 1;
      const tallest = full ? (window.innerHeight - 110) / rows : Math.max(window.innerHeight * 0.78, 220);
      const middle = { across: (this.paneWidth / 2 - this.x) / this.scale, down: (this.paneHeight / 2 - this.y) / this.scale };
      this.paneWidth = (outer - 4 * (columns - 1)) / columns;
      let fit = Math.min(this.paneWidth / this.width, tallest / this.height) * this.ratio;
      if (fit > 1) fit = Math.floor(fit); // all pixels of one size
      this.fitZoom = fit;
      this.paneHeight = Math.round(full ? tallest : Math.min(tallest, Math.max((this.height * fit) / this.ratio, 160)));
      this.stage.style.setProperty("--columns", columns);
      this.stage.style.setProperty("--height", `${this.paneHeight}px`);
      if (this.fitted) return this.fit();
      this.x = this.paneWidth / 2 - middle.across * this.scale;
      this.y = this.paneHeight / 2 - middle.down * this.scale;
      this.draw();
    }

    fit() {
      this.fitted = true;
      this.zoom = this.fitZoom;
      this.draw();
    }

    step(direction, at) {
      const levels = [...ZOOMS, this.fitZoom].filter((zoom) => zoom >= Math.min(this.fitZoom, 1)).sort((a, b) => a - b);
      const next = direction > 0 ? levels.find((zoom) => zoom > this.zoom * 1.01)
        : levels.findLast((zoom) => zoom < this.zoom / 1.01);
      if (next === undefined) return false;
      this.zoomTo(next, at);
      return true;
    }

    zoomTo(zoom, at = { x: this.paneWidth / 2, y: this.paneHeight / 2 }) {
      const [across, down] = [(at.x - this.x) / this.scale, (at.y - this.y) / this.scale];
      this.zoom = zoom;
      this.fitted = zoom === this.fitZoom;
      this.x = at.x - across * this.scale;
      this.y = at.y - down * this.scale;
      this.draw();
    }

    moveBy(across, down) {
      this.x += across;
      this.y += down;
      this.draw();
    }

    draw() {
      const inside = (offset, pane, length, before) => {
        const free = pane - length;
        const exact = free >= 0 ? free / 2 : clamp(offset, free, 0);
        return Math.round((before + exact) * this.ratio) / this.ratio - before; // on device pixels: all of one size
      };
      const box = this.stage.getBoundingClientRect();
      const [width, height] = [this.width * this.scale, this.height * this.scale];
      this.x = inside(this.x, this.paneWidth, width, box.left);
      this.y = inside(this.y, this.paneHeight, height, box.top);
      for (const { image, place, ...picture } of this.shown) {
        image.style.width = `${place.width * this.scale}px`;
        image.style.height = `${place.height * this.scale}px`;
        image.style.transform = `translate(${this.x + place.left * this.scale}px, ${this.y + place.top * this.scale}px)`;
        image.classList.toggle("pixels", (this.zoom * place.width) / picture.width > 1);
      }
      const [from, to] = this.seen;
      this.stage.style.setProperty("--from", `${from}px`);
      this.stage.style.setProperty("--behind", `${this.paneWidth - to}px`);
      this.stage.classList.toggle("zoomed", width > this.paneWidth + 1 || height > this.paneHeight + 1);
      this.zoomOutput.textContent = `${Math.round(this.zoom * 1000) / 10} %`;
      this.drawLine();
    }

    get seen() { // from where to where the picture is seen in its pane
      return [Math.max(this.x, 0), Math.min(this.x + this.width * this.scale, this.paneWidth)];
    }

    drawLine() {
      const [from, to] = this.seen;
      const line = Math.round(from + this.position * (to - from));
      for (const { pane } of this.pictures) pane.style.clipPath = "";
      if (this.mode === "slider" && this.left !== this.right) {
        this.pictures[this.left].pane.style.clipPath = `inset(0 ${this.paneWidth - line}px 0 0)`;
        this.pictures[this.right].pane.style.clipPath = `inset(0 0 0 ${line}px)`;
      }
      this.handle.style.left = `${line}px`;
      const percent = Math.round(this.position * 100);
      this.handle.setAttribute("aria-valuenow", percent);
      const [a, b] = [this.pictures[this.left].name, this.pictures[this.right].name];
      this.handle.setAttribute("aria-valuetext", `${percent} % ${a}, ${100 - percent} % ${b}`);
    }

    setPosition(position) {
      this.position = clamp(position, 0, 1);
      this.drawLine();
    }

    toggleFullScreen() {
      if (document.fullscreenElement) document.exitFullscreen();
      else this.figure.requestFullscreen?.();
    }

    // ---- pointers, wheel and keys -----------------------------------------------------------------------------

    listen() {
      this.stage.addEventListener("pointerdown", (event) => this.press(event));
      this.stage.addEventListener("pointermove", (event) => this.move(event));
      for (const type of ["pointerup", "pointercancel"]) {
        this.stage.addEventListener(type, (event) => this.pointers.delete(event.pointerId));
      }
      this.stage.addEventListener("pointerleave", () => this.stage.classList.remove("pointed"));
      this.stage.addEventListener("dblclick", (event) => {
        if (this.handle.contains(event.target)) return;
        if (this.fitted) this.zoomTo(this.fitZoom < 1 ? 1 : this.fitZoom * 2, this.place(event));
        else this.fit();
      });
      this.stage.addEventListener("wheel", (event) => this.turnWheel(event), { passive: false });
      this.stage.addEventListener("keydown", (event) => this.pressKey(event));
    }

    place(event) { // of a pointer, in its pane
      const box = this.stage.getBoundingClientRect();
      const [across, down] = [event.clientX - box.left, event.clientY - box.top];
      return { x: across % (this.paneWidth + 4), y: down % (this.paneHeight + 4) };
    }

    press(event) {
      if (event.button !== 0) return;
      this.stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      const onLine = this.handle.contains(event.target);
      this.dragsLine = this.mode === "slider" && (onLine || !this.stage.classList.contains("zoomed"));
      if (!this.dragsLine || this.pointers.size > 1) return;
      if (!onLine) this.dragLine(event);
      this.handle.focus({ preventScroll: true, focusVisible: false });
      event.preventDefault();
    }

    dragLine(event) {
      const [from, to] = this.seen;
      this.setPosition((this.place(event).x - from) / (to - from));
    }

    move(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before) return this.read(event);
      if (this.pointers.size === 2) this.pinch(event);
      else if (this.dragsLine) this.dragLine(event);
      else this.moveBy(event.clientX - before.clientX, event.clientY - before.clientY);
      this.pointers.set(event.pointerId, event);
    }

    pinch(event) {
      const other = [...this.pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
      const before = this.pointers.get(event.pointerId);
      const apart = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY);
      const [a, b] = [this.place(event), this.place(other)];
      const zoom = (this.zoom * apart(event)) / Math.max(apart(before), 1);
      this.zoomTo(clamp(zoom, Math.min(this.fitZoom, 1), 64), { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
      this.moveBy((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
    }

    turnWheel(event) {
      // Where there are many, the wheel scrolls the page until one of them is clicked into.
      if (!isAlone() && !event.ctrlKey && !this.stage.contains(document.activeElement)) return;
      this.wheel += event.deltaY * (event.deltaMode === 1 ? 33 : 1);
      if (Math.abs(this.wheel) >= 50) {
        const moved = this.step(-Math.sign(this.wheel), this.place(event));
        this.wheel = 0;
        if (!moved && !event.ctrlKey) return; // as small or as large as it gets: the page goes on scrolling
      }
      event.preventDefault();
    }

    pressKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const leaps = { Home: -1, End: 1, PageDown: -0.1, PageUp: 0.1 };
      if (event.key === "+" || event.key === "=") this.step(1);
      else if (event.key === "-") this.step(-1);
      else if (event.key === "0") this.fit();
      else if (event.key === "1") this.zoomTo(1);
      else if (event.target === this.handle && steps) {
        this.setPosition(this.position + (steps[0] - steps[1]) * (event.shiftKey ? 0.1 : 0.01));
      } else if (event.target === this.handle && event.key in leaps) this.setPosition(this.position + leaps[event.key]);
      else if (steps && this.stage.classList.contains("zoomed")) this.moveBy(-steps[0] * 60, -steps[1] * 60);
      else return;
      event.preventDefault();
    }

    // ---- values of pixels -------------------------------------------------------------------------------------

    read(event) {
      if (event.pointerType === "touch") return;
      const at = this.place(event);
      this.stage.classList.add("pointed");
      this.stage.style.setProperty("--cross-x", `${at.x}px`);
      this.stage.style.setProperty("--cross-y", `${at.y}px`);
      const [across, down] = [(at.x - this.x) / this.scale, (at.y - this.y) / this.scale];
      if (across < 0 || down < 0 || across >= this.width || down >= this.height) return;
      const read = this.mode === "side" ? this.pictures : [this.pictures[this.left], this.pictures[this.right]];
      const values = read.map(({ name, image, place, width, height }) => {
        const left = Math.floor(((across - place.left) / place.width) * width);
        const top = Math.floor(((down - place.top) / place.height) * height);
        const there = image.complete && left >= 0 && top >= 0 && left < width && top < height;
        return `${name}: ${there ? pixelAt(image, left, top).join(" ") : "\u2013"}`;
      });
      this.readout.textContent = `(${Math.floor(across)}, ${Math.floor(down)})  ${values.join("  \u00b7  ")}`;
    }
  }

  const scratch = new Map();

  function drawingOn(name, width, height) {
    const canvas = scratch.get(name) || element("canvas");
    scratch.set(name, canvas);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const drawing = canvas.getContext("2d", { willReadFrequently: true });
    drawing.imageSmoothingQuality = "high";
    drawing.fillStyle = "#808080"; // what is transparent lies on a middle grey
    drawing.fillRect(0, 0, width, height);
    return drawing;
  }

  function pixelAt(image, left, top) {
    const drawing = drawingOn("pixel", 1, 1);
    drawing.drawImage(image, left, top, 1, 1, 0, 0, 1, 1);
    return [...drawing.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }

  function writeDifference(canvas, pictures, width, height) {
    Object.assign(canvas, { width, height });
    const target = canvas.getContext("2d");
    let [sum, largest] = [0, 0];
    for (let top = 0; top < height; top += BAND_ROWS) {
      const rows = Math.min(BAND_ROWS, height - top);
      const [one, other] = pictures.map(({ image, place }, index) => {
        const drawing = drawingOn(index, width, rows);
        drawing.drawImage(image, place.left, place.top - top, place.width, place.height);
        return drawing.getImageData(0, 0, width, rows);
      });
      for (let at = 0; at < one.data.length; at += 4) {
        for (let channel = at; channel < at + 3; channel += 1) {
          const apart = Math.abs(one.data[channel] - other.data[channel]);
          one.data[channel] = apart;
          sum += apart;
          if (apart > largest) largest = apart;
        }
        one.data[at + 3] = 255;
      }
      target.putImageData(one, 0, top);
    }
    return { mean: sum / (width * height * 3), largest };
  }

  const start = () => document.querySelectorAll(".xpsr-slider:not(.ready)").forEach((figure) => new Slider(figure));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
