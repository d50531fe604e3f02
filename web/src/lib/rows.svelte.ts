/** Long tables: only rows in sight are in the page. */

const SPARE_ROWS = 8;

export class VisibleRows {
  top = $state(0);
  height = $state(600);

  constructor(
    private readonly count: () => number,
    readonly rowHeight: number,
  ) {}

  readonly first = $derived.by(() => Math.max(0, Math.floor(this.top / this.rowHeight) - SPARE_ROWS));
  readonly last = $derived.by(() =>
    Math.min(this.count(), Math.ceil((this.top + this.height) / this.rowHeight) + SPARE_ROWS),
  );

  /** Space that stands for the rows above and below. */
  get before(): number {
    return this.first * this.rowHeight;
  }
  get after(): number {
    return (this.count() - this.last) * this.rowHeight;
  }
}
