/** Texts of alerts in the language of the page, where there are such: those of rules that come along. */

import { i18n } from '../i18n/index.svelte';
import type { Labels } from '../api/client';
import { inChinese } from './builtin-zh';
import { summaryOf } from './model';

export const said = (alert: string, text: string): string => (i18n.language === 'zh' ? inChinese(alert, text) : text);

/** The text of an alert that tells most, as it is read. */
export const saidOf = ({ labels, annotations }: { labels: Labels; annotations: Labels }): string => said(labels['alertname'] ?? '', summaryOf({ annotations }));
