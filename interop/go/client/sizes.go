package main

import (
	"bytes"
	"fmt"
	"strings"

	"k8s.io/client-go/tools/remotecommand"
)

// sizeQueue is a terminal that changes its size when the output says so, not when a clock does: a script of sizes
// gives the same session on a fast machine and on a slow one.
type sizeQueue struct {
	sizes chan remotecommand.TerminalSize
	// What is still to be sent, and the text that releases each.
	script []remotecommand.TerminalSize
	text   []byte
	// The end of the output so far, shorter than text: it may come in pieces.
	tail []byte
}

func newSizeQueue(list, text string) (*sizeQueue, error) {
	queue := &sizeQueue{text: []byte(text)}
	for _, word := range strings.Split(list, ",") {
		if word == "" {
			continue
		}
		var size remotecommand.TerminalSize
		if _, err := fmt.Sscanf(word, "%dx%d", &size.Width, &size.Height); err != nil {
			return nil, fmt.Errorf("%q is not WIDTHxHEIGHT: %w", word, err)
		}
		queue.script = append(queue.script, size)
	}
	// Room for all, so that Write never waits.
	queue.sizes = make(chan remotecommand.TerminalSize, len(queue.script))
	queue.release()
	return queue, nil
}

func (q *sizeQueue) release() {
	if len(q.script) > 0 {
		q.sizes <- q.script[0]
		q.script = q.script[1:]
	}
}

// Next blocks between sizes and for ever after the last: nil would end the resize stream.
func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	size := <-q.sizes
	return &size
}

// Write watches the output.
func (q *sizeQueue) Write(data []byte) (int, error) {
	if len(q.text) == 0 {
		return len(data), nil
	}
	seen := append(q.tail, data...)
	for {
		at := bytes.Index(seen, q.text)
		if at < 0 {
			break
		}
		q.release()
		seen = seen[at+len(q.text):]
	}
	q.tail = bytes.Clone(seen[max(0, len(seen)-len(q.text)+1):])
	return len(data), nil
}
