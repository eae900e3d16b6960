// Answers on their way: kept in this browser until the server has said that they are on its disk.
import { call } from "./api.js";

const KEY = "rapport-outbox";

export const kept = () => JSON.parse(localStorage.getItem(KEY) || "[]");

export class Outbox {
  // told(state word); refused(sentence, id) for an answer that the server will never take; late() for one that it took
  // when its question had gone back.
  constructor(told, refused, late) {
    this.told = told;
    this.refused = refused;
    this.late = late;
    this.waiting = kept();
    this.mine = new Set(this.waiting.map((a) => a.id)); // whatever this tab has to send or has sent
    this.busy = false;
    addEventListener("online", () => this.send());
    this.begun = this.send(); // what an earlier page left is sent, or has to wait
  }

  put(answer) {
    this.waiting.push(answer);
    this.#keep();
    this.send();
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) {
      this.told(`Sending ${this.waiting.length}`);
      const { id, ...body } = this.waiting[0];
      try {
        if ((await call("PUT", `/api/answers/${id}`, body)).late) this.late();
      } catch (error) {
        if (error.passing || error.status === 401) {
          this.told(error.status === 0 ? `Offline, ${this.waiting.length} kept here` : `${this.waiting.length} kept here: ${error.message}`);
          setTimeout(() => this.send(), 1000 * error.wait);
          break;
        }
        this.refused(error.message, id);
      }
      this.waiting = this.waiting.filter((answer) => answer.id !== id);
      this.#keep();
    }
    if (!this.waiting.length) this.told("Saved");
    this.busy = false;
  }

  #keep() {
    // Another tab of the same person may have sent or added some: only this tab's own are its business.
    for (const { id } of this.waiting) this.mine.add(id);
    const others = kept().filter((a) => !this.mine.has(a.id));
    try {
      localStorage.setItem(KEY, JSON.stringify([...others, ...this.waiting]));
    } catch {
      // There is no room: what waits is kept as long as this page is open.
    }
  }
}

export const newId = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
