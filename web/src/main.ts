import './styles/base.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { i18n } from './lib/i18n/index.svelte';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no #app element');
void i18n.start().then(() => mount(App, { target }));
