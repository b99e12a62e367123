// Something to be tried again later, and later each time it fails (Linux: schedule_delay of drivers/xen/balloon.c).

export class Retry {
  readonly #run: () => void;
  readonly #first: number;
  readonly #most: number;
  #delay: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Waits `first` milliseconds, then twice as long each time, up to `most`. */
  constructor(run: () => void, first: number, most: number) {
    this.#run = run;
    this.#first = first;
    this.#most = most;
    this.#delay = first;
  }

  get pending(): boolean {
    return this.#timer !== undefined;
  }

  later(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#run();
    }, this.#delay);
    this.#delay = Math.min(this.#delay * 2, this.#most);
  }

  /** It need not be tried again. */
  done(): void {
    this.#delay = this.#first;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
