// Kubernetes' own streaming clients as a command: what kubectl, kubelet and crictl link.
//
//	client_go exec TRANSPORT FLAGS URL          FLAGS: any of i (stdin), e (stderr), t (terminal)
//	client_go forward TRANSPORT URL PORT        prints the local port, ends with its stdin
//
// TRANSPORT is spdy, websocket, or one channel protocol of a WebSocket.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

type sizes struct{ left int }

func (s *sizes) Next() *remotecommand.TerminalSize {
	if s.left == 0 {
		return nil
	}
	s.left--
	return &remotecommand.TerminalSize{Width: 121, Height: 37}
}

func fail(err error) {
	if code, ok := err.(exec.CodeExitError); ok {
		os.Exit(code.Code)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(125)
}

func executor(transport, address string) (remotecommand.Executor, error) {
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	switch transport {
	case "spdy":
		where, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutor(config, "POST", where)
	case "websocket":
		return remotecommand.NewWebSocketExecutor(config, "GET", address)
	default:
		return remotecommand.NewWebSocketExecutorForProtocols(config, "GET", address, transport)
	}
}

func run(transport, flags, address string) error {
	made, err := executor(transport, address)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout}
	if strings.Contains(flags, "i") {
		options.Stdin = os.Stdin
	}
	if strings.Contains(flags, "e") {
		options.Stderr = os.Stderr
	}
	if strings.Contains(flags, "t") {
		options.Tty = true
		options.TerminalSizeQueue = &sizes{left: 1}
	}
	return made.StreamWithContext(context.Background(), options)
}

func forward(transport, address, port string) error {
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	where, err := url.Parse(address)
	if err != nil {
		return err
	}
	tripper, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return err
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: tripper}, "POST", where)
	if transport != "spdy" {
		dialer, err = portforward.NewSPDYOverWebsocketDialer(where, config)
		if err != nil {
			return err
		}
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(
		dialer, []string{"127.0.0.1"}, []string{"0:" + port}, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	go func() {
		<-ready
		ports, err := forwarder.GetPorts()
		if err != nil {
			fail(err)
		}
		fmt.Println(ports[0].Local)
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return forwarder.ForwardPorts()
}

func main() {
	var err error
	if os.Args[1] == "exec" {
		err = run(os.Args[2], os.Args[3], os.Args[4])
	} else {
		err = forward(os.Args[2], os.Args[3], os.Args[4])
	}
	if err != nil {
		fail(err)
	}
}
