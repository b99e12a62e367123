/** Operations that are under way at the same time, as many as there is room for. */
export class Flight {
  readonly #under = new Set<Promise<void>>();
  readonly #most: number;
  #failure: { readonly error: unknown } | undefined;

  constructor(most: number) {
    this.#most = most;
  }

  get isFull(): boolean {
    return this.#under.size >= this.#most;
  }

  add(work: Promise<unknown>): void {
    const flying = work.then(undefined, (error: unknown) => void (this.#failure ??= { error })).then(() => void this.#under.delete(flying));
    this.#under.add(flying);
  }

  /** Resolves when another one can be added; throws what any has failed with. */
  async room(): Promise<void> {
    while (this.isFull) await Promise.race(this.#under);
    if (this.#failure) throw this.#failure.error;
  }

  /** Resolves when none is under way; throws what any has failed with. */
  async landed(): Promise<void> {
    await Promise.all(this.#under);
    if (this.#failure) throw this.#failure.error;
  }
}
