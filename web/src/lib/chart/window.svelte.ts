/** What part of time a page shows: the range from the address, and where "now" is while it moves. */

import { now } from '../time/clock';
import { bounds, type Range } from '../time/range';

export class TimeWindow {
  /**
   * While live, the right edge trails the newest data by one collection, so that lines reach the edge and
   * flow instead of growing in jumps behind a blank strip.
   */
  lagMs = $state(0);

  constructor(readonly range: () => Range) {}

  get moving(): boolean {
    return this.range().kind === 'relative';
  }

  bounds(): { from: number; to: number } {
    return bounds(this.range(), now() - this.lagMs);
  }
}
