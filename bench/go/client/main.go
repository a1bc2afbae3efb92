// Command client is client-go's executor as a client of the bench: keystrokes to an echoing command, one after the
// other, and how long each took to come back.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// client URL ROUNDS SIZE: prints one duration in nanoseconds a line.
func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: client URL ROUNDS SIZE")
	}
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewWebSocketExecutorForProtocols(&rest.Config{}, "GET", args[0], "v4.channel.k8s.io")
	if err != nil {
		return err
	}
	stdinReader, stdin := io.Pipe()
	stdout, stdoutWriter := io.Pipe()
	go func() {
		err := executor.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdin: stdinReader, Stdout: stdoutWriter})
		stdoutWriter.CloseWithError(fmt.Errorf("the session ended: %v", err))
	}()
	key, echo := make([]byte, size), make([]byte, size)
	times := make([]time.Duration, rounds)
	for round := range times {
		started := time.Now()
		if _, err := stdin.Write(key); err != nil {
			return err
		}
		if _, err := io.ReadFull(stdout, echo); err != nil {
			return err
		}
		times[round] = time.Since(started)
	}
	for _, time := range times {
		fmt.Println(time.Nanoseconds())
	}
	return nil
}
