/** Long tables: only rows in sight are in the page. */

import { rowWindow } from './row-window';

const SPARE_ROWS = 8;

export class VisibleRows {
  top = $state(0);
  height = $state(600);

  constructor(
    private readonly count: () => number,
    readonly rowHeight: number,
  ) {}

  readonly #window = $derived.by(() => rowWindow(this.top, this.height, this.rowHeight, this.count(), SPARE_ROWS));

  get first(): number {
    return this.#window.first;
  }
  get last(): number {
    return this.#window.last;
  }

  /** Space that stands for the rows above and below. */
  get before(): number {
    return this.first * this.rowHeight;
  }
  get after(): number {
    return (this.count() - this.last) * this.rowHeight;
  }
}
