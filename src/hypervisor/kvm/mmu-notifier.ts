// KVM's MMU notifier (Linux: include/linux/mmu_notifier.h, virt/kvm/kvm_main.c): the host brackets whatever it does to the pages behind
// a guest by invalidate_range_start and _end. A fault that reads where its page is while that is going on, or that was overtaken by it,
// must not install what it read: it compares a sequence number, and is taken again.
//
// In KVM the two brackets are what a page move shows itself by, and tracking hangs on the second: by then the range lies where it lies.
// An entry that is there may change inside brackets only; `covers` lets the p2m check that.

export class MmuNotifier {
  readonly #rangeChanged: (first: number, count: number) => void;
  /** Ranges being changed, as [first, end). */
  readonly #active: { first: number; end: number }[] = [];
  #sequence = 0;

  /** @param rangeChanged called at the end of each change, with its range */
  constructor(rangeChanged: (first: number, count: number) => void) {
    this.#rangeChanged = rangeChanged;
  }

  /** To be read before a fault looks up where its page is. */
  get sequence(): number {
    return this.#sequence;
  }

  rangeStart(first: number, count: number): void {
    this.#active.push({ first, end: first + count });
  }

  /** Before the count falls the sequence rises: a fault sees one or the other. */
  rangeEnd(first: number, count: number): void {
    ++this.#sequence;
    this.#active.splice(
      this.#active.findIndex((range) => range.first === first && range.end === first + count),
      1,
    );
    this.#rangeChanged(first, count);
  }

  covers(gfn: number): boolean {
    return this.#active.some((range) => gfn >= range.first && gfn < range.end);
  }

  /** What a fault found out when the sequence was `since` may be stale. */
  mustRetry(since: number, gfn: number): boolean {
    return this.covers(gfn) || this.#sequence !== since;
  }
}

/** What a fault does with the page it is about. */
export interface FaultedPage {
  /** Takes a machine frame for it. */
  find(): number;
  /** Somebody else's fault has backed it. */
  isBacked(): boolean;
  set(mfn: number): void;
  drop(mfn: number): void;
}

/** A fault in its two steps: what goes behind the page is found without a lock, and installed unless the host overtook it. */
export class Fault {
  readonly #since: number;
  readonly #mfn: number;

  constructor(
    private readonly notifier: MmuNotifier,
    private readonly gfn: number,
    private readonly page: FaultedPage,
  ) {
    this.#since = notifier.sequence;
    this.#mfn = page.find();
  }

  /** False: the fault must be taken again. */
  install(): boolean {
    const stale = this.notifier.mustRetry(this.#since, this.gfn);
    if (stale || this.page.isBacked()) this.page.drop(this.#mfn);
    else this.page.set(this.#mfn);
    return !stale;
  }
}
