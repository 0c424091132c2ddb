// A plugin on containerd/nri's own stub: prints what it is told, one JSON object a line, and adjusts
// what the annotation "adjust" of a container asks for.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type plugin struct{ stub stub.Stub }

func say(event string, more map[string]any) {
	line := map[string]any{"event": event}
	for key, value := range more {
		line[key] = value
	}
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func (p *plugin) Configure(_ context.Context, config, runtime, version string) (api.EventMask, error) {
	say("Configure", map[string]any{"config": config, "runtime": runtime, "version": version})
	return 0, nil
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	say("Synchronize", map[string]any{"pods": len(pods), "containers": len(containers)})
	return nil, nil
}

func (p *plugin) Shutdown(context.Context) { say("Shutdown", nil) }

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	say("RunPodSandbox", map[string]any{"pod": pod.Name, "ips": pod.Ips})
	if pod.Annotations["veto"] != "" {
		return errors.New(pod.Annotations["veto"])
	}
	return nil
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	say("StopPodSandbox", map[string]any{"pod": pod.Name})
	return nil
}

func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	length := 0
	for _, arg := range container.Args {
		length += len(arg)
	}
	say("CreateContainer", map[string]any{"container": container.Name, "length": length})
	if container.Annotations["hang"] != "" {
		time.Sleep(time.Hour)
	}
	if container.Annotations["adjust"] == "" {
		return nil, nil, nil
	}
	adjust := &api.ContainerAdjustment{}
	adjust.AddEnv("FROM_GO", pod.Name)
	adjust.AddAnnotation("seen-by", "go")
	adjust.AddMount(&api.Mount{Destination: "/go", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro"}})
	adjust.SetLinuxMemoryLimit(123456)
	adjust.AddRlimit("RLIMIT_NOFILE", 100, 50)
	update := &api.ContainerUpdate{}
	update.SetContainerId("other")
	update.SetLinuxCPUShares(77)
	return adjust, []*api.ContainerUpdate{update}, nil
}

func (p *plugin) UpdateContainer(_ context.Context, _ *api.PodSandbox, container *api.Container, resources *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	say("UpdateContainer", map[string]any{"container": container.Name, "limit": resources.Memory.GetLimit().GetValue()})
	update := &api.ContainerUpdate{}
	update.SetContainerId(container.Id)
	update.SetLinuxCPUShares(99)
	return []*api.ContainerUpdate{update}, nil
}

func (p *plugin) StopContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) ([]*api.ContainerUpdate, error) {
	say("StopContainer", map[string]any{"container": container.Name})
	return nil, nil
}

func (p *plugin) PostStartContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) error {
	say("PostStartContainer", map[string]any{"container": container.Name})
	update := &api.ContainerUpdate{}
	update.SetContainerId("unsolicited")
	update.SetLinuxCPUShares(11)
	failed, err := p.stub.UpdateContainers([]*api.ContainerUpdate{update})
	say("Updated", map[string]any{"failed": len(failed), "error": err != nil})
	return nil
}

func (p *plugin) ValidateContainerAdjustment(_ context.Context, req *api.ValidateContainerAdjustmentRequest) error {
	say("Validate", map[string]any{"plugins": len(req.Plugins)})
	if req.Container.Annotations["reject"] != "" {
		return errors.New(req.Container.Annotations["reject"])
	}
	return nil
}

func main() {
	socket := flag.String("socket", "", "of the runtime")
	name := flag.String("name", "", "of the plugin")
	index := flag.String("index", "", "of the plugin")
	flag.Parse()
	options := []stub.Option{}
	if *socket != "" {
		options = append(options, stub.WithSocketPath(*socket))
	}
	if *name != "" {
		options = append(options, stub.WithPluginName(*name), stub.WithPluginIdx(*index))
	}
	made := &plugin{}
	var err error
	if made.stub, err = stub.New(made, options...); err == nil {
		err = made.stub.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
