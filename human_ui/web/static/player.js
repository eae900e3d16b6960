// Several clips on one clock. The first is the clock; another that is more than a frame away is set to it.

const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 4];

export const speed = () => Number(localStorage.getItem("rapport-speed")) || 1;

// A clip as an element that is loaded before it is shown. Rejects with a sentence when it cannot be played.
export async function ready(url, about) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto", src: url });
  video.disablePictureInPicture = true;
  video.style.aspectRatio = `${about.width} / ${about.height}`;
  video.width = about.width;
  video.height = about.height;
  await new Promise((resolve, reject) => {
    video.addEventListener("loadeddata", resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(`This browser cannot play ${about.media_type}. Open the study in a current Firefox, Chrome or Safari.`)), { once: true });
  });
  return video;
}

// Texts have no clock.
export class Reading {
  constructor(texts) {
    Object.assign(this, { seen: texts.map(() => null), told: {}, frames: 1, frame: 0, fps: 1 });
  }
  play() {}
  stop() {}
  toggle() {}
  again() {}
  seek() {}
  rate() {}
  faster() {}
}

export class Player {
  // clips: [{video, fps, frames}]; changed() after every frame. `seen[i]`: ms on the clock of the page at which clip i
  // had been shown to its end for the first time.
  constructor(clips, changed) {
    this.clips = clips;
    this.changed = changed;
    this.seen = clips.map(() => null);
    this.told = { replays: 0, seeks: 0 };
    this.playing = false;
    this.frames = Math.max(...clips.map((clip) => clip.frames));
    this.fps = clips[0].fps;
    this.rate(speed());
  }

  // The longest clip leads, since a shorter one stands on its last frame.
  get lead() {
    return this.clips.find((clip) => clip.frames === this.frames);
  }

  get frame() {
    return Math.min(this.frames - 1, Math.floor(this.lead.video.currentTime * this.fps + 1e-3));
  }

  play() {
    if (this.frame >= this.frames - 1) this.#place(0);
    this.playing = true;
    for (const { video } of this.clips) video.play().catch(() => {});
    this.#follow();
  }

  pause() {
    this.playing = false;
    for (const { video } of this.clips) video.pause();
    this.#place(this.frame);
  }

  toggle() {
    this.playing ? this.pause() : this.play();
  }

  again() {
    this.told.replays += 1;
    this.#place(0);
    this.play();
  }

  seek(frame) {
    this.told.seeks += 1;
    this.playing = false;
    for (const { video } of this.clips) video.pause();
    this.#place(frame);
  }

  rate(value) {
    localStorage.setItem("rapport-speed", value);
    for (const { video } of this.clips) video.playbackRate = value;
    this.changed(this);
  }

  faster(way) {
    const at = SPEEDS.indexOf(speed());
    this.rate(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, (at < 0 ? 2 : at) + way))]);
  }

  stop() {
    this.playing = false;
    for (const { video } of this.clips) video.pause();
  }

  #place(frame) {
    const wanted = Math.max(0, Math.min(this.frames - 1, frame));
    // The middle of a frame: at its edge browsers differ about which one is meant.
    for (const { video, frames, fps } of this.clips) video.currentTime = (Math.min(wanted, frames - 1) + 0.5) / fps;
    this.changed(this);
  }

  #follow() {
    if (!this.playing) return;
    const now = this.lead.video.currentTime;
    this.clips.forEach(({ video, frames, fps }, i) => {
      const end = (frames - 0.5) / fps;
      if (now >= end || video.ended) this.seen[i] ??= performance.now();
      if (!video.ended && now < end && Math.abs(video.currentTime - now) > 1 / fps) video.currentTime = now;
    });
    this.changed(this);
    if (this.lead.video.ended || this.frame >= this.frames - 1) {
      this.clips.forEach((_, i) => (this.seen[i] ??= performance.now()));
      this.stop();
      this.#place(this.frames - 1);
    } else requestAnimationFrame(() => this.#follow());
  }
}
