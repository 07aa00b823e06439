// Keeps the page up to date: the server makes the same markup again, and it is put in place. Without this script the page loads
// itself again.
"use strict";

const live = document.getElementById("live");
const when = document.getElementById("when");
const said = document.getElementById("said");
const pause = document.getElementById("pause");
const period = 2000;
let paused = false;
let pointed = null; // the plot under the pointer, and where: it stays as it is

function parsed(text) {
	return new DOMParser().parseFromString("<!DOCTYPE html><body>" + text, "text/html").body;
}

// put replaces what is shown, but leaves open what was opened.
function put(text) {
	const open = [...live.querySelectorAll("details[open]")].map((d) => d.id);
	const headline = document.getElementById("headline").textContent;
	const scrolled = [...live.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
	live.replaceChildren(...parsed(text).childNodes);
	for (const id of open) {
		const d = document.getElementById(id);
		if (d) d.open = true;
	}
	live.querySelectorAll(".scroll").forEach((s, i) => { s.scrollLeft = scrolled[i] || 0; });
	const now = document.getElementById("headline").textContent;
	if (now !== headline) {
		said.textContent = now; // read out to those who cannot see it change
		document.title = now + document.title.slice(document.title.indexOf(" · "));
	}
	if (pointed) readOut(pointed.id, pointed.clientX);
}

function busy() {
	const selection = getSelection();
	return paused || document.hidden || live.contains(document.activeElement) ||
		!selection.isCollapsed && live.contains(selection.anchorNode);
}

async function refresh() {
	if (!busy()) {
		try {
			const answer = await fetch("live", { cache: "no-store", redirect: "error" });
			if (!answer.ok) throw new Error("status " + answer.status);
			const text = await answer.text();
			if (!busy()) put(text);
			document.body.classList.remove("stale");
			when.textContent = "as of " + new Date().toLocaleTimeString([], { hour12: false });
		} catch (err) {
			document.body.classList.add("stale");
			when.textContent = "no answer since " + when.textContent.replace(/^.*?(\d)/, "$1");
		}
	}
	setTimeout(refresh, period);
}

// readOut shows the values of the sample that is nearest to the pointer.
function readOut(id, clientX) {
	const figure = document.getElementById(id);
	const svg = figure && figure.querySelector("svg");
	if (!svg || !svg.dataset.x) return;
	const box = svg.getBoundingClientRect();
	const at = (clientX - box.left) / box.width * svg.viewBox.baseVal.width;
	const xs = svg.dataset.x.split(" ").map(Number);
	let nearest = 0;
	xs.forEach((x, i) => { if (Math.abs(x - at) < Math.abs(xs[nearest] - at)) nearest = i; });
	const cursor = svg.querySelector(".cursor");
	cursor.setAttribute("x1", xs[nearest]);
	cursor.setAttribute("x2", xs[nearest]);
	figure.querySelector(".readout").textContent = svg.dataset.text.split("|")[nearest];
}

live.addEventListener("pointermove", (e) => {
	const svg = e.target.closest("svg.plot");
	pointed = svg ? { id: svg.parentElement.id, clientX: e.clientX } : null;
	if (pointed) readOut(pointed.id, e.clientX);
});
live.addEventListener("pointerleave", () => { pointed = null; });

pause.hidden = false;
pause.addEventListener("click", () => {
	paused = !paused;
	pause.textContent = paused ? "Go on" : "Pause";
	pause.setAttribute("aria-pressed", String(paused));
});

const ask = document.getElementById("ask");
if (ask) {
	const answer = document.getElementById("answer");
	ask.addEventListener("submit", async (e) => {
		e.preventDefault();
		const form = new URLSearchParams({ sql: ask.elements.sql.value });
		try {
			const got = await fetch(ask.getAttribute("action") + "?part=1", { method: "POST", body: form, redirect: "error" });
			answer.replaceChildren(...parsed(await got.text()).childNodes);
		} catch (err) {
			answer.textContent = "The program does not answer.";
		}
	});
	document.getElementById("sql").addEventListener("keydown", (e) => {
		if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) ask.requestSubmit();
	});
}

setTimeout(refresh, period);
